"""From what the user named to a network with its weights: a row of the manifest, a model and a scale, or a file."""

from pathlib import Path

from torch import nn

from upscale_cli import zoo
from upscale_cli.errors import UnknownNetworkError, WeightsError
from upscale_cli.manifest import Entry, load_manifest, names_file
from upscale_cli.weights import formats, ncnn, source, spandrel
from upscale_cli.weights.importing import read_tensors, read_weights
from upscale_cli.zoo.encoders.imagenet import without_classifier


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


def load_encoder(network: nn.Module, encoder: str, *, offline: bool = False) -> None:
    """Fill an encoder of the zoo with the weights of a row (`vgg16`) or of a file; what names classes is left out.

    Raises UsageError for an unknown name, WeightsError for weights that are not there, not sound, or of another one.
    """
    if names_file(encoder):
        path = Path(encoder)
        if not path.exists():
            raise WeightsError(f"{path} does not exist. Give a weights file, or an encoder of `upscale models list`.")
    else:
        path = source.locate(load_manifest().encoder(encoder), offline=offline)
    state = without_classifier(read_tensors(path)[0])
    formats.check_fits(state, formats.shapes_of(network), name=f"the encoder {encoder}")
    network.load_state_dict(state, strict=True)


def variant_of_file(path: Path) -> zoo.Variant:
    """What a weights file is: by the name in its header, else by its keys and shapes. WeightsError if it is neither."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Give --model a weights file, or a name of `upscale models list`.")
    try:
        return read_weights(path).variant
    except UnknownNetworkError as unknown:
        return _load_elsewhere(path, unknown)[0]


def _load_file(path: Path) -> tuple[str, zoo.Variant, nn.Module]:
    try:
        weights = read_weights(path)
    except UnknownNetworkError as unknown:
        return path.stem, *_load_elsewhere(path, unknown)
    module = weights.variant.build().eval()
    module.load_state_dict(weights.state, strict=True)
    return path.stem, weights.variant, module


def _load_elsewhere(path: Path, unknown: UnknownNetworkError) -> tuple[zoo.Variant, nn.Module]:
    """What spandrel makes of a file that no network here fits. WeightsError if it is not there or knows none either."""
    if not spandrel.installed():
        raise WeightsError(f"{unknown} {spandrel.INSTALL}") from unknown
    try:
        return spandrel.read(path)[:2]
    except UnknownNetworkError:
        raise WeightsError(f"{unknown} spandrel knows none either.") from unknown


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
