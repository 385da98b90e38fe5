"""The manifest row of a trained file: everything measured from the file and the network, nothing typed by hand."""

import json
from dataclasses import replace
from pathlib import Path

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Bundled, Entry, License, Manifest, Score
from upscale_cli.weights.download import sha256_of
from upscale_cli.weights.formats import check_fits, expected_shapes, identify, keys_sha256, read_state, state_shapes


def manifest_row(path: Path, manifest: Manifest, *, license: License) -> Entry:
    """The bundled row for `path`, made from the row the manifest already has for the file's variant: of several, which
    differ in what they learned, the one that the file is called after.

    The file's header may say `variant`, `recipe` and `scores` (a JSON list with the fields of `Score`); without a
    variant the keys and shapes decide. Raises WeightsError if the file does not fit or the manifest has no such row.
    """
    state, metadata = read_state(path)
    variant = zoo.find(metadata["variant"]) if "variant" in metadata else identify(state_shapes(state))[0]
    expected = expected_shapes(variant)
    check_fits(state, expected, name=variant.name)
    rows = [entry for entry in manifest.entries if entry.variant == variant.name]
    entry = next((entry for entry in rows if entry.name == path.stem), rows[0] if rows else None)
    if entry is None:
        raise WeightsError(f"The manifest has no row for {variant.name}. Add it with the status untrained first.")
    try:
        scores = tuple(Score(**score) for score in json.loads(metadata.get("scores", "[]")))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: the scores in the header are not a list of scores ({error}).") from error
    return replace(
        entry,
        scale=variant.scale,
        parameters=variant.parameters,
        status="bundled",
        source=Bundled(path.name),
        size=path.stat().st_size,
        sha256=sha256_of(path),
        keys_sha256=keys_sha256(expected),
        license=license,
        scores=scores,
        recipe=metadata.get("recipe", entry.recipe),
    )
