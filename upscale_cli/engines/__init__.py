"""How a network runs fast: one engine a file, one interface. torch is imported when an engine is opened."""

from pathlib import Path

from upscale_cli.engines.interface import Engine, Tiles

__all__ = ["Engine", "Tiles", "open_engine"]


def open_engine(
    model: str | Path,
    scale: float | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
) -> Engine:
    """The engine for a model; see `load_model` for what can be named and what is raised."""
    from upscale_cli.engines.eager import EagerEngine
    from upscale_cli.model import load_model

    return EagerEngine(load_model(model, scale=scale, device=device, precision=precision, offline=offline))
