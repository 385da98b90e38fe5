"""`upscale`: make photographs larger, and better, in batches.

For Python users: `load_model("edsr", scale=4)` gives tensor in, tensor out; `Upscaler([open_engine("edsr", 4)])`
enlarges whole pictures by tiles. Both import torch when they are first asked for, not before.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upscale_cli.engines import open_engine
    from upscale_cli.model import load_model
    from upscale_cli.pipeline import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "load_model", "open_engine"]

_HOMES = {"Upscaler": "pipeline", "load_model": "model", "open_engine": "engines"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"upscale_cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'upscale_cli' has no attribute {name!r}")
