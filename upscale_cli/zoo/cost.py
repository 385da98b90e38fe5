"""What a network asks for an input pixel: operations, and values in memory at the worst moment, read off its layers."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from upscale_cli.zoo.blocks import BAND_VALUES, Banded, as_engines_run_it
from upscale_cli.zoo.variant import Variant

_SIDE_PX = 128  # no less: networks that look through windows fill smaller pictures up to one


@functools.cache
def operations_per_pixel(variant: Variant, *, folded: bool = False) -> float:
    """Of convolutions and matrix products, a multiplication and an addition counted as two; as the network is defined,
    or with its end `folded` as engines run it.
    """
    counter = FlopCounterMode(display=False)
    side = _SIDE_PX * (4 if folded else 1)  # of a rim, which is not folded, little is to be seen
    pixels = _probe(variant, lambda _module: counter, folded=folded, side=side)
    return counter.get_total_flops() / pixels


def live_values(variant: Variant, pixels: int) -> float:
    """Values alive at the worst layer of a tile of so many pixels, as engines run it."""
    everywhere, in_band = live_values_per_pixel(variant)
    return pixels * everywhere + min(pixels * in_band, 3 * BAND_VALUES)


@functools.cache
def live_values_per_pixel(variant: Variant) -> tuple[float, float]:
    """Values alive at the worst layer: its input, its output, one skip connection of that size. And at the worst of the
    layers that are computed by bands, 0 where there are none.
    """
    sizes, in_band = [0], [0]
    under_way = sizes

    @contextlib.contextmanager
    def watched(module: nn.Module) -> Iterator[None]:
        if isinstance(module, Banded):
            draw = module.draw

            def drawing(features: Tensor, dtype: torch.dtype) -> Tensor:
                nonlocal under_way
                under_way = in_band
                try:
                    return draw(features, dtype)
                finally:
                    under_way = sizes

            module.draw = drawing
        for layer in module.modules():
            if not list(layer.children()):
                layer.register_forward_hook(note)
        yield

    def note(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        each = [tensor.numel() for tensor in (*inputs, output) if isinstance(tensor, Tensor)]
        under_way.append(sum(each) + max(each))

    pixels = _probe(variant, watched, folded=True)
    return max(sizes) / pixels, max(in_band) / pixels


def _probe(
    variant: Variant,
    watch: Callable[[nn.Module], contextlib.AbstractContextManager[object]],
    *,
    folded: bool,
    side: int = _SIDE_PX,
) -> int:
    """Run it while `watch` does, on the meta device, which computes shapes and nothing else; return the pixels it saw.

    A real device for networks of other packages whose code looks at numbers.
    """
    side = -(-side // variant.multiple_of) * variant.multiple_of
    for device in (torch.device("meta"), torch.device("cpu")):
        with contextlib.suppress(RuntimeError) if device.type == "meta" else contextlib.nullcontext(), device:
            # Moved there too: what was built around weights in memory is not made of meta tensors.
            module = variant.build().to(device).eval()
            if folded:
                as_engines_run_it(module)
            with torch.inference_mode(), watch(module):
                module(torch.full((1, 3, side, side), 0.5))
            break
    return side**2
