"""`upscale train publish`: the weights of a finished training, its pictures and its card to a repository of the hub.

Sends nothing of the folder but those, and no path of this machine.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.manifest import Entry, Hub, License, Score
from upscale_cli.train.card import Facts, card, read_facts, trained_on
from upscale_cli.weights.download import endpoint, sha256_of
from upscale_cli.weights.formats import keys_sha256, read_state, state_shapes

REPORT, WEIGHTS = "report", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """What goes where, and under which rights."""

    folder: Path
    """Of a finished training."""
    repo_id: str
    """`owner/name`; made if it is not there."""
    spdx: str = "Apache-2.0"
    attribution: str = ""
    """Whose work the weights are; the owner of the repository unless given."""
    commercial: bool = True
    trained_on: tuple[str, ...] = ()
    """What to say of the data; the name of what --data was given unless anything is."""
    private: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """Where the weights are now, and the manifest row that pins them."""

    url: str
    row: Entry


def publish(request: PublishRequest) -> Published:
    """Upload in one commit. UsageError for a folder without a finished training, OutputError where the hub refuses."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    weights, report = request.folder / WEIGHTS, request.folder / REPORT
    facts = read_facts(report)
    row = _row(request, facts, weights)
    readme = card(facts, name=request.repo_id.rpartition("/")[2], license=request.spdx.lower())
    files: dict[str, Path | bytes] = {
        WEIGHTS: weights,
        "README.md": readme.encode(),
        "config.toml": report / "config.toml",
    }
    files |= {path.name: path for path in sorted(report.glob("*.png"))}
    address = endpoint()
    try:
        api = HfApi(endpoint=address)
        api.create_repo(request.repo_id, private=request.private or None, exist_ok=True)
        commit = api.create_commit(
            request.repo_id,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()],
            commit_message=f"{facts.variant}, {facts.steps} steps",
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        causes = [error, *([error.__cause__] if error.__cause__ else [])]
        reason = "; ".join(str(each).strip().partition("\n")[0].rstrip(".") for each in causes)
        raise OutputError(
            f"{request.repo_id} on {address} cannot be written: {reason}. Set HF_TOKEN to a token that may write "
            "there, and check the name of the repository; the training is untouched."
        ) from error
    return Published(f"{address}/{request.repo_id}", replace(row, source=Hub(request.repo_id, commit.oid, WEIGHTS)))


def _row(request: PublishRequest, facts: Facts, weights: Path) -> Entry:
    """The manifest row, measured from the file, as yet without a place."""
    if not weights.is_file():
        raise UsageError(f"{weights} does not exist. Finish the training with `upscale train --resume`.")
    owner, slash, name = request.repo_id.partition("/")
    if not (owner and slash and name):
        raise UsageError(f"{request.repo_id!r} is no repository of the hub. Name it as owner/name.")
    state, _ = read_state(weights)
    data = request.trained_on or trained_on(facts)
    scores = facts.scores or {}
    known = {metric: scores[metric] for metric in ("psnr_y", "ssim_y", "psnr_rgb") if metric in scores}
    return Entry(
        name=facts.variant.replace("/", "-"),
        model=facts.variant.partition("/")[0],
        variant=facts.variant,
        task="upscale" if facts.scale > 1 else "restore",
        scale=facts.scale,
        parameters=facts.parameters,
        status="published",
        summary=f"{facts.variant}, trained on {', '.join(data)}.",
        size=weights.stat().st_size,
        sha256=sha256_of(weights),
        keys_sha256=keys_sha256(state_shapes(state)),
        license=License(request.spdx, request.attribution or owner, request.commercial, data, None),
        scores=(Score(f"{facts.pictures} validation photographs", protocol=facts.protocol, **known),)
        if len(known) == 3
        else (),
    )
