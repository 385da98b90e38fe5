"""A network with its weights: tensor in, tensor out. Casts, clamps, mixes weights, and takes tensors of any size.

What is no multiple of the variant's `multiple_of` is padded here. Tiles need none: `enlarge` pads the whole picture, so
that the blocks a network folds begin at the same pixels in every tile.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli import device as devices
from upscale_cli.errors import DeviceLostError, NonFiniteOutputError, OutOfMemoryError, UsageError
from upscale_cli.weights.formats import shapes_of
from upscale_cli.weights.loading import load_module
from upscale_cli.zoo import Shapes, Variant
from upscale_cli.zoo.blocks import as_engines_run_it

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Model:
    """One variant on one device in one precision; the weights are held in that precision, channels last."""

    def __init__(
        self, name: str, variant: Variant, module: nn.Module, *, device: torch.device, precision: str = "auto"
    ) -> None:
        """`module` is variant.build() with its weights loaded, on the CPU in fp32, and is left as it is."""
        self.name = name
        self.variant = variant
        self.device = device
        self.precision = choose_precision(variant, device, precision)
        self._source = module
        module = copy.deepcopy(module).eval().requires_grad_(False)
        as_engines_run_it(module)
        # The stubs of torch know `memory_format` for tensors only.
        self.module = module.to(device, DTYPES[self.precision], memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.inference_mode()
    def __call__(self, lr: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1], any float dtype and device, to float32 N x 3 x sH x sW in [0, 1] on the CPU.

        Raises OutOfMemoryError if the device has no room, DeviceLostError if it works no more, NonFiniteOutputError if
        the network gives NaN or infinity.
        """
        with self.failures(*lr.shape[-2:]):
            sr = self.raw(lr.to(self.device, torch.float32, memory_format=torch.channels_last))
            finite = bool(is_finite(sr))
            sr = sr.clamp_(0, 1).cpu()
        if not finite:
            raise self.non_finite()
        return sr

    def raw(self, lr: Tensor) -> Tensor:
        """What the network itself gives, not clamped: N x 3 x H x W, float32, channels last, on the device, where
        nothing is waited for, to N x 3 x sH x sW.
        """
        height, width = lr.shape[-2:]
        sr = self.module(_pad_to_multiple(lr, self.variant.multiple_of))
        return sr[..., : height * self.variant.scale, : width * self.variant.scale]

    @contextlib.contextmanager
    def failures(self, height: int, width: int) -> Iterator[None]:
        """The library's errors inside, with a tile of this size, as those of the pipeline."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if devices.is_out_of_memory(error):
                raise OutOfMemoryError(f"{self.variant.name} has no memory for {height} x {width} pixels.") from error
            if devices.is_lost(self.device):
                reason = str(error).partition("\n")[0]
                raise DeviceLostError(f"The device {self.device} works no more: {reason}") from error
            raise

    def non_finite(self) -> NonFiniteOutputError:
        """The error for a picture that is none."""
        return NonFiniteOutputError(f"{self.variant.name} gave NaN or infinity in {self.precision}.")

    def in_precision(self, precision: str) -> "Model":
        """The same weights in another precision."""
        return Model(self.name, self.variant, self._source, device=self.device, precision=precision)


def is_finite(sr: Tensor) -> Tensor:
    """Whether no value is NaN or infinite, as a tensor, on the device. To be asked before anything is clamped."""
    # Both survive a sum; clamping would hide the one and the file format the other.
    return torch.isfinite(sr.sum())


class Picture(nn.Module):
    """The network as `Model` runs it: N x 3 x H x W in [0, 1] to N x 3 x sH x sW in [0, 1], any H and W."""

    def __init__(self, network: nn.Module, variant: Variant) -> None:
        super().__init__()
        self.network = network
        self.scale = variant.scale
        self.multiple_of = variant.multiple_of

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        if self.multiple_of > 1:
            lr = F.pad(lr, (0, -width % self.multiple_of, 0, -height % self.multiple_of), mode="replicate")
        sr = self.network(lr)[..., : height * self.scale, : width * self.scale]
        return sr.clamp(0, 1)


def load_model(
    model: str | Path,
    *,
    scale: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
) -> Model:
    """A row of the manifest (`edsr-x4`), a model at a scale (`edsr`, 4), or a safetensors file, ready to run.

    Raises UsageError for a name, device or precision that is not there, WeightsError for weights that are not sound.
    """
    where = devices.pick(device)
    name, variant, module = load_module(model, scale, offline=offline)
    return Model(name, variant, module, device=where, precision=precision)


def load_mixture(
    first: str | Path,
    second: str | Path,
    share: float,
    *,
    scale: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
) -> Model:
    """Two models as one network, as `load_network` mixes them, ready to run. Raises what that raises."""
    where = devices.pick(device)
    name, variant, module = load_network((first, second), share, scale=scale, offline=offline)
    return Model(name, variant, module, device=where, precision=precision)


def load_network(
    models: Sequence[str | Path], share: float | None, *, scale: float | None = None, offline: bool = False
) -> tuple[str, Variant, nn.Module]:
    """Name, variant and module (CPU, fp32, eval mode) of one model, or of two mixed.

    With a `share` every weight is (1 - share) x first + share x second: 0 is the first, 1 the second. After Wang et
    al., Deep Network Interpolation, arXiv:1811.10515; `share` is the alpha of ESRGAN's net_interp. Raises what
    `load_model` raises, and UsageError for two that are not one network with other weights.
    """
    name, variant, module = load_module(models[0], scale, offline=offline)
    if share is None:
        return name, variant, module
    other_name, other, source = load_module(models[1], scale, offline=offline)
    if _kind(variant, module) != _kind(other, source):
        raise UsageError(
            f"{name} is {variant.name} and {other_name} is {other.name}: weights of different networks cannot be "
            "mixed. Use --ensemble to average their pictures."
        )
    if not variant.parameters:
        raise UsageError(f"{name} and {other_name} are formulas and have no weights to mix. Use --ensemble.")
    weights = source.state_dict()
    module.load_state_dict(
        {
            key: value.lerp(weights[key], share) if value.is_floating_point() else value
            for key, value in module.state_dict().items()
        }
    )
    return f"{name}:{other_name}:{share}", variant, module


def choose_precision(variant: Variant, device: torch.device, wanted: str) -> str:
    """`auto` becomes the fastest that device and variant agree on; one the variant declares unsound is refused."""
    if wanted == "auto":
        fastest = devices.fastest_precision(device)
        if fastest in variant.dtypes:
            return fastest
        # bf16 has the range of fp32: where fp16 overflows it does not.
        return "bf16" if fastest == "fp16" and "bf16" in variant.dtypes else "fp32"
    if wanted == "int8":
        raise UsageError("int8 runs on CPUs by OpenVINO. Use --device cpu and --engine auto, or another --precision.")
    if wanted not in DTYPES:
        raise UsageError(f"Precision {wanted!r} is unknown. Choose auto, {', '.join(DTYPES)}.")
    if wanted not in variant.dtypes:
        sound = ", ".join(variant.dtypes)
        raise UsageError(f"{variant.name} is not sound in {wanted}. Use --precision auto, or one of {sound}.")
    return wanted


def _kind(variant: Variant, module: nn.Module) -> tuple[str, int, Shapes]:
    """What two networks must have in common for their weights to be mixed."""
    return variant.architecture, variant.scale, shapes_of(module)


def _pad_to_multiple(lr: Tensor, multiple: int) -> Tensor:
    bottom, right = (-lr.shape[-2]) % multiple, (-lr.shape[-1]) % multiple
    return F.pad(lr, (0, right, 0, bottom), mode="replicate") if bottom or right else lr
