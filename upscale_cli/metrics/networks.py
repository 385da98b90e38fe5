"""Metrics that look through a network: it is built, filled with its weights, and put on its device, once.

Owns where those weights are looked for: the user's file, the folder that torch keeps downloads in, the manifest's row.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upscale_cli import device as devices
from upscale_cli.errors import WeightsError
from upscale_cli.metrics.fid import FID
from upscale_cli.metrics.gauge import Gauge, Mean, Needs
from upscale_cli.metrics.perceptual import DISTS, LPIPS, Latest, to_tensor
from upscale_cli.metrics.protocol import Pixels
from upscale_cli.weights.loading import load_encoder
from upscale_cli.zoo.encoders.alexnet import AlexNet
from upscale_cli.zoo.encoders.inception import FIDInception
from upscale_cli.zoo.encoders.vgg import LPIPS_TAPS, VGG

# What other programs have torch fetch; the end of a name is how its SHA-256 begins.
TORCH_FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
    "inception": "pt_inception-2015-12-05-6726825d.pth",
}
M = TypeVar("M", bound=nn.Module)


def lpips(kind: Literal["alex", "vgg"], needs: Needs) -> Callable[[], Gauge]:
    """See `Metric.open`."""
    if kind == "alex":
        measure = LPIPS(kind, _filled(AlexNet(), "alexnet", needs), devices.pick(needs.device))
    else:
        measure = LPIPS(kind, _filled(VGG(depth=16, taps=LPIPS_TAPS), "vgg16", needs), devices.pick(needs.device))
    return lambda: Mean(measure)


def dists(needs: Needs) -> Callable[[], Gauge]:
    """See `Metric.open`."""
    measure = DISTS(_filled(VGG(depth=16, taps=LPIPS_TAPS), "vgg16", needs), devices.pick(needs.device))
    return lambda: Mean(measure)


def fid(needs: Needs) -> Callable[[], Gauge]:
    """See `Metric.open`."""
    where = devices.pick(needs.device)
    network = _filled(FIDInception(), "inception", needs).to(where)

    @torch.inference_mode()
    def see(picture: Pixels) -> npt.NDArray[np.float32]:
        return network(to_tensor(picture, where))[0].cpu().numpy()

    see_reference = Latest(see)
    return lambda: FID(see, see_reference)


def _filled(network: M, encoder: str, needs: Needs) -> M:
    """With weights; WeightsError, with the ways out, where there are none."""
    path = needs.encoders.get(encoder) or _torch_file(encoder)
    try:
        load_encoder(network, encoder if path is None else str(path.absolute()), offline=needs.offline)
    except WeightsError as error:
        raise WeightsError(f"{error} For metrics: --encoder {encoder}={TORCH_FILES[encoder]}") from error
    return network


def _torch_file(encoder: str) -> Path | None:
    """What another program fetched, if it is what its name says."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    path = Path(home).expanduser() / "hub" / "checkpoints" / TORCH_FILES[encoder]
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path if digest.startswith(path.stem.rpartition("-")[2]) else None
