"""A finished training on the hub: what is sent, the row that pins it, and that it comes back by that row."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mini_hub import COMMIT, MiniHub
from typer.testing import CliRunner

from upscale_cli import zoo
from upscale_cli.cli.app import app
from upscale_cli.errors import OutputError, UsageError
from upscale_cli.manifest.rows import read_row
from upscale_cli.train.card import Facts, write_facts
from upscale_cli.train.publish import PublishRequest, publish
from upscale_cli.weights import formats, source

VARIANT = zoo.find("lightweight/x2-tiny")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MiniHub]:
    with MiniHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        # As HF_HUB_DISABLE_XET=1 does: the hub here takes files by LFS.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder that a training leaves."""
    torch.manual_seed(0)
    folder = tmp_path / "run"
    (folder / "report").mkdir(parents=True)
    formats.save(folder / "weights.safetensors", VARIANT.build().state_dict(), {"variant": VARIANT.name})
    (folder / "checkpoint.pt").write_bytes(b"large")
    (folder / "report" / "config.toml").write_text("steps = 20\n")
    (folder / "report" / "curves.png").write_bytes(b"png")
    facts = Facts(
        variant=VARIANT.name,
        architecture=VARIANT.architecture,
        scale=2,
        parameters=VARIANT.parameters,
        config={"batch": 4, "best_by": "psnr_y"},
        steps=20,
        best_step=10,
        scores={"psnr_y": 30.5, "ssim_y": 0.9, "psnr_rgb": 29.0},
        protocol="8-bit RGB output",
        pictures=3,
        seconds=60.0,
        device="a CPU",
        processes=1,
        versions={"torch": "2"},
        data=(str(tmp_path / "secret" / "photos"),),
    )
    write_facts(facts, folder / "report")
    return folder


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub to its own client
def test_a_training_is_published_and_comes_back_by_the_row_that_is_printed(
    hub: MiniHub, trained: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["train", "publish", str(trained), "me/net", "--license", "CC-BY-4.0"])
    assert result.exit_code == 0, result.output
    assert f"published: {hub.url}/me/net" in result.stderr
    ((name, row),) = json.loads(result.stdout).items()
    entry = read_row(name, row)
    assert row["source"] == {"kind": "hub", "repo_id": "me/net", "revision": COMMIT, "path": "weights.safetensors"}
    assert entry.license
    assert (entry.license.spdx, entry.license.attribution, entry.license.trained_on) == ("CC-BY-4.0", "me", ("photos",))
    assert entry.scores[0].psnr_y == 30.5
    assert entry.keys_sha256 == formats.keys_sha256(formats.expected_shapes(VARIANT))

    sent = {name for _, name in hub.files}
    assert sent == {"weights.safetensors", "README.md", "config.toml", "curves.png"}, "no checkpoint, no facts"
    card = hub.files["me/net", "README.md"].decode()
    assert "license: cc-by-4.0" in card
    assert "secret" not in card
    fetched = source.locate(entry, cache_dir=tmp_path / "cache")
    assert fetched.read_bytes() == (trained / "weights.safetensors").read_bytes()


def test_without_a_token_the_hub_refuses_and_that_is_said(
    hub: MiniHub, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OutputError, match=r"me/net on http.* cannot be written: .*401.*Set HF_TOKEN"):
        publish(PublishRequest(folder=trained, repo_id="me/net"))
    assert not hub.files


def test_a_folder_without_a_finished_training_is_refused(hub: MiniHub, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no report of a finished training"):
        publish(PublishRequest(folder=tmp_path, repo_id="me/net"))
    with pytest.raises(UsageError, match="'net' is no repository of the hub"):
        publish(PublishRequest(folder=trained, repo_id="net"))
    (trained / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match=r"weights\.safetensors does not exist"):
        publish(PublishRequest(folder=trained, repo_id="me/net"))
    assert not hub.log
