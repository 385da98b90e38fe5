"""How a network runs fast: one engine a file, one interface. torch is imported when an engine needs it."""

from dataclasses import replace
from pathlib import Path

from upscale_cli import device as devices
from upscale_cli import findings
from upscale_cli.engines.compose import Ensemble, SelfEnsemble
from upscale_cli.engines.interface import Engine, Floats, Tiles
from upscale_cli.errors import UsageError
from upscale_cli.networks import Combination

__all__ = ["BACKENDS", "Engine", "Ensemble", "Floats", "SelfEnsemble", "Tiles", "open_engine"]

BACKENDS = ("torch", "openvino")


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

    `backend` is one of BACKENDS, or `auto`: OpenVINO on a CPU unless `upscale bench` found torch faster there, torch
    elsewhere and for what OpenVINO cannot run; an engine's `remark` says why it is not the fastest. UsageError for a
    backend that cannot run it and was asked for by name, where models that are to make one picture differ in scale, or
    those to be mixed in their network.
    """
    if backend not in ("auto", *BACKENDS):
        raise UsageError(f"There is no engine {backend!r}. Choose auto, {', '.join(BACKENDS)}.")
    wanted = Combination.of(model)
    alone = [Combination((name,)) for name in wanted.models] if wanted.share is None else [replace(wanted, tta=False)]
    members = [_open(each, scale, device, precision, backend, offline=offline) for each in alone]
    engine = members[0] if len(members) == 1 else Ensemble(members)
    return SelfEnsemble(engine) if wanted.tta else engine


def _open(
    network: Combination, scale: float | None, device: str, precision: str, backend: str, *, offline: bool
) -> Engine:
    from upscale_cli.engines.graph import BackendError, UnfitError, open_graph
    from upscale_cli.engines.openvino import OpenVINOEngine

    remark = ""
    if backend == "openvino" and not devices.is_cpu(device):
        raise UsageError(f"The engine openvino runs on CPUs, not on {device}. Use --engine torch, or --device cpu.")
    if backend == "openvino" or (backend == "auto" and devices.is_cpu(device)):
        try:
            engine = OpenVINOEngine(open_graph(network, scale, offline=offline), precision=precision)
            if backend == "openvino" or precision == "int8" or _fastest(engine.name, precision) != "torch":
                return engine
        except BackendError as error:
            if backend != "auto" or precision == "int8":
                raise
            remark = "" if isinstance(error, UnfitError) else f"{error} torch runs it instead, slower."
    from upscale_cli.engines.cuda import CudaEngine
    from upscale_cli.engines.eager import EagerEngine
    from upscale_cli.model import Model, load_network

    where = devices.pick(device)
    name, variant, module = load_network(network.models, network.share, scale=scale, offline=offline)
    model = Model(name, variant, module, device=where, precision=precision)
    return CudaEngine(model) if where.type == "cuda" else EagerEngine(model, remark=remark)


def _fastest(name: str, precision: str) -> str | None:
    """The backend that ran this network fastest on this CPU, in a precision that may be used; None unless compared."""
    sound = ("fp32", "bf16", "fp16") if precision == "auto" else (precision,)
    measured = [found.backend for found in findings.known(name, "cpu") if found.precision in sound]
    return measured[0] if len(set(measured)) > 1 else None
