"""How a network runs fast: one engine a file, one interface. torch is imported when an engine is opened."""

from pathlib import Path

from upscale_cli.engines.interface import Engine, Tiles

__all__ = ["Engine", "Tiles", "open_engine"]


def open_engine(
    model: str | Path,
    scale: int | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
) -> Engine:
    """The engine for a row of the manifest (`edsr-x4`), a model and its native scale, or a safetensors file.

    Raises UsageError for a name, device or precision that is not there, WeightsError for weights that are not sound.
    """
    from upscale_cli import device as devices
    from upscale_cli.engines.eager import EagerEngine
    from upscale_cli.model import Model
    from upscale_cli.weights.loading import load_module

    where = devices.pick(device)
    name, variant, module = load_module(model, scale, offline=offline)
    return EagerEngine(name, Model(variant, module, device=where, precision=precision))
