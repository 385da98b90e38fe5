"""Styles with a known answer: weights whose table is the same for every picture."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.weights.formats import save
from upscale_cli.zoo.lut3d import identity

POINTS = 33


def warm(colors: Tensor) -> Tensor:
    """3 x ... colours: red and green exchanged, blue at half. Trilinear tables hold it exactly."""
    red, green, blue = colors
    return torch.stack((green, red, blue / 2))


def dim(colors: Tensor) -> Tensor:
    """All at a quarter."""
    return colors / 4


def looked(image: npt.NDArray[np.uint8 | np.uint16], *, style: object = warm) -> npt.NDArray[np.uint8 | np.uint16]:
    """H x W x 3 integers through `warm` or `dim`, rounded once."""
    wide = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)
    made = style(wide).permute(1, 2, 0).numpy()  # type: ignore[operator]
    return np.rint(made).astype(image.dtype)


def write_style(path: Path, style: object = warm) -> Path:
    """Weights of lut3d/x1 that give every picture the one table."""
    module = zoo.find("lut3d/x1").build()
    with torch.no_grad():
        generator = module.get_submodule("lut_generator.weights_generator")
        generator.weight.zero_()  # type: ignore[operator, union-attr]
        module.get_parameter("lut_generator.basis_luts.0").copy_(style(identity(POINTS)))  # type: ignore[operator]
    save(path, module.state_dict(), {"variant": "lut3d/x1"})
    return path
