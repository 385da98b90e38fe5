"""How a network runs fast: one engine a file, one interface. torch is imported when an engine is opened."""

from pathlib import Path

from upscale_cli.engines.compose import Ensemble, SelfEnsemble
from upscale_cli.engines.interface import Engine, Tiles
from upscale_cli.networks import Combination

__all__ = ["Engine", "Ensemble", "SelfEnsemble", "Tiles", "open_engine"]


def open_engine(
    model: str | Path | Combination,
    scale: float | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    offline: bool = False,
) -> Engine:
    """The engine for a model, or for several as one; see `load_model` for what can be named and what is raised.

    UsageError also where models that are to make one picture differ in scale, or those to be mixed in their network.
    """
    from upscale_cli.engines.eager import EagerEngine
    from upscale_cli.model import load_mixture, load_model

    wanted = Combination.of(model)
    if wanted.share is not None:
        first, second = wanted.models
        engine: Engine = EagerEngine(
            load_mixture(first, second, wanted.share, scale=scale, device=device, precision=precision, offline=offline)
        )
    else:
        members = [
            EagerEngine(load_model(name, scale=scale, device=device, precision=precision, offline=offline))
            for name in wanted.models
        ]
        engine = members[0] if len(members) == 1 else Ensemble(members)
    return SelfEnsemble(engine) if wanted.tta else engine
