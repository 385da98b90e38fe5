"""From what the user named to a network with its weights: a row of the manifest, a model and a scale, or a file."""

from pathlib import Path

from torch import nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import Entry, load_manifest, names_file
from upscale_cli.weights import formats, source


def load_module(model: str | Path, scale: float | None, *, offline: bool = False) -> tuple[str, zoo.Variant, nn.Module]:
    """Name, variant and module (CPU, fp32, eval mode) of a manifest row, of a model at a scale, or of a weights file.

    Raises UsageError for an unknown name, WeightsError for weights that are not there or not sound.
    """
    if names_file(model):
        return _load_file(Path(model))
    entry = load_manifest().find(str(model), scale)
    return entry.name, zoo.find(entry.variant), _load_entry(entry, offline=offline)


def variant_of_file(path: Path) -> zoo.Variant:
    """What a weights file is: by the name in its header, else by its keys and shapes. WeightsError if it is neither."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Give --model a weights file, or a name of `upscale models list`.")
    state, metadata = formats.read_state(path)
    if "variant" in metadata:
        try:
            return zoo.find(metadata["variant"])
        except UsageError as error:
            raise WeightsError(f"{path} says it is for {metadata['variant']!r}. {error}") from error
    try:
        return formats.identify({key: value.shape for key, value in state.items()}, zoo.variants())
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _load_file(path: Path) -> tuple[str, zoo.Variant, nn.Module]:
    variant = variant_of_file(path)
    module = variant.build().eval()
    formats.load_into(module, path, name=variant.name)
    return path.stem, variant, module


def _load_entry(entry: Entry, *, offline: bool) -> nn.Module:
    module = zoo.find(entry.variant).build().eval()
    if entry.status != "formula":
        formats.load_into(module, source.locate(entry, offline=offline), name=entry.name)
    return module
