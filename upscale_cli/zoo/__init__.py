"""The zoo: every network, one architecture a file, joined here by hand: one line in `_ARCHITECTURES` each."""

import difflib
from collections.abc import Mapping

from upscale_cli.errors import UsageError
from upscale_cli.zoo import (
    cyclegan,
    drct,
    edsr,
    enhance_residual,
    hat,
    improved,
    interpolation,
    lightweight,
    lut3d,
    mobilenetv2_decoder,
    rdn,
    realplksr,
    resnet18_unet,
    rrdb,
    rrdn,
    simplecnn,
    span,
    srresnet,
    srvgg,
    swinir,
)
from upscale_cli.zoo.variant import Architecture, Precision, Shapes, Variant

__all__ = ["Architecture", "Precision", "Shapes", "Variant", "find", "recognise", "variants"]

_ARCHITECTURES = (
    lightweight.ARCHITECTURE,
    improved.ARCHITECTURE,
    edsr.ARCHITECTURE,
    srresnet.ARCHITECTURE,
    srvgg.ARCHITECTURE,
    rrdb.ARCHITECTURE,
    rdn.ARCHITECTURE,
    rrdn.ARCHITECTURE,
    simplecnn.ARCHITECTURE,
    mobilenetv2_decoder.ARCHITECTURE,
    resnet18_unet.ARCHITECTURE,
    cyclegan.ARCHITECTURE,
    span.ARCHITECTURE,
    realplksr.ARCHITECTURE,
    swinir.ARCHITECTURE,
    hat.ARCHITECTURE,
    drct.ARCHITECTURE,
    enhance_residual.ARCHITECTURE,
    lut3d.ARCHITECTURE,
    interpolation.ARCHITECTURE,
)
_BY_NAME = {variant.name: variant for architecture in _ARCHITECTURES for variant in architecture.variants}
if len(_BY_NAME) != sum(len(architecture.variants) for architecture in _ARCHITECTURES):
    raise RuntimeError("two variants of the zoo share a name")


def variants() -> tuple[Variant, ...]:
    """All variants, in the order of the tables."""
    return tuple(_BY_NAME.values())


def find(name: str) -> Variant:
    """The variant called `name` (`edsr/x4`); UsageError with the nearest names otherwise."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(_BY_NAME)}."
    raise UsageError(f"No network variant is called {name!r}. {hint}")


def recognise(shapes: Shapes) -> tuple[Variant, Mapping[str, str]] | None:
    """The network a state dict belongs to by its keys and shapes, and its keys -> ours (those to drop left out).

    Hyperparameters that no table has are read from the shapes. None where no architecture knows the layout.
    """
    for architecture in _ARCHITECTURES:
        names = {key: key for key in shapes}
        if architecture.translate is not None:
            names = architecture.translate(shapes.keys()) or names
        if architecture.recognise is not None:
            variant = architecture.recognise({names[key]: shape for key, shape in shapes.items() if key in names})
            if variant is not None:
                return variant, names
    return None
