"""From what the user named to a network with its weights: a row of the manifest, a model and a scale, or a file."""

from pathlib import Path

from torch import nn

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Entry, load_manifest, names_file
from upscale_cli.weights import formats, ncnn, source
from upscale_cli.weights.importing import read_weights


def load_module(model: str | Path, scale: float | None, *, offline: bool = False) -> tuple[str, zoo.Variant, nn.Module]:
    """Name, variant and module (CPU, fp32, eval mode) of a manifest row, of a model at a scale, or of a weights file.

    Raises UsageError for an unknown name, WeightsError for weights that are not there or not sound.
    """
    if names_file(model):
        return _load_file(Path(model))
    entry = load_manifest().find(str(model), scale)
    if entry.status == "imported":  # whose hyperparameters no table may have
        return entry.name, *_load_file(source.locate(entry))[1:]
    return entry.name, zoo.find(entry.variant), _load_entry(entry, offline=offline)


def variant_of_file(path: Path) -> zoo.Variant:
    """What a weights file is: by the name in its header, else by its keys and shapes. WeightsError if it is neither."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Give --model a weights file, or a name of `upscale models list`.")
    return read_weights(path).variant


def _load_file(path: Path) -> tuple[str, zoo.Variant, nn.Module]:
    weights = read_weights(path)
    module = weights.variant.build().eval()
    module.load_state_dict(weights.state, strict=True)
    return path.stem, weights.variant, module


def _load_entry(entry: Entry, *, offline: bool) -> nn.Module:
    module = zoo.find(entry.variant).build().eval()
    if entry.status == "formula":
        return module
    path = source.locate(entry, offline=offline)
    if path.suffix == ".bin":  # of an ncnn model: it names no tensors, the row does
        module.load_state_dict(ncnn.read_bin(path, formats.shapes_of(module)), strict=True)
    else:
        formats.load_into(module, path, name=entry.name)
    return module
