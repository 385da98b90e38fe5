"""Independent implementations that tests compare with: found where they are installed, else the test is skipped.

None is a dependency. Most import torchvision, whose compiled operators do not load beside a torch built for the
processor alone; that two of them are declared is enough for its Python part.
"""

import importlib
import warnings
from types import ModuleType

import pytest
import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # declarations last as long as their library object


def oracle(name: str) -> ModuleType:
    """The module `name` (`spandrel.architectures.ESRGAN`), or the test is skipped with the reason."""
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _SIGNATURE)
        _declared.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, not ours
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed as a reference: {error}")
