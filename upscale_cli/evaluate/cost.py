"""What a model costs: its parameters, and its operations for a picture of the size that papers count them for."""

from pathlib import Path

from upscale_cli.manifest import load_manifest, names_file
from upscale_cli.networks import Combination
from upscale_cli.zoo import Variant, find

PIXELS_720P = 1280 * 720


def cost_of(model: Combination, scale: int) -> tuple[int, float | None]:
    """Parameters, and billion multiplications with an addition for an output of 1280 x 720 (Ahn et al., CARN, 2018).

    Of an ensemble all its members', of a mixture those of one; eight runs with `tta`. None where there are none.
    """
    from upscale_cli.zoo.cost import operations_per_pixel

    members = [_variant(name, scale) for name in model.models][: 1 if model.share is not None else None]
    operations = sum(operations_per_pixel(member) for member in members) * (8 if model.tta else 1)
    macs = operations / 2 * PIXELS_720P / scale**2
    return sum(member.parameters for member in members), macs / 1e9 or None


def _variant(name: str | Path, scale: int) -> Variant:
    if names_file(name):
        from upscale_cli.weights.loading import variant_of_file

        return variant_of_file(Path(name))
    entry = load_manifest().find(str(name), scale)
    if entry.status == "imported":
        from upscale_cli.weights import source
        from upscale_cli.weights.loading import variant_of_file

        return variant_of_file(source.locate(entry))
    return find(entry.variant)
