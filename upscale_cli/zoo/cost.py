"""What a network asks for an input pixel: operations, and values in memory at the worst moment, read off its layers."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from upscale_cli.zoo.blocks import fold_ends
from upscale_cli.zoo.variant import Variant

_SIDE_PX = 128  # no less: networks that look through windows fill smaller pictures up to one


@functools.cache
def operations_per_pixel(variant: Variant, *, folded: bool = False) -> float:
    """Of convolutions and matrix products, a multiplication and an addition counted as two; as the network is defined,
    or with its end `folded` as engines run it.
    """
    counter = FlopCounterMode(display=False)
    side = _SIDE_PX * (4 if folded else 1)  # of a rim, which is not folded, little is to be seen
    return _probe(variant, lambda _module: counter, counter.get_total_flops, folded=folded, side=side)


@functools.cache
def live_values_per_pixel(variant: Variant) -> float:
    """Values alive at the worst layer, as engines run it: its input, its output, one skip connection of that size."""
    sizes = [0]

    @contextlib.contextmanager
    def watched(module: nn.Module) -> Iterator[None]:
        for layer in module.modules():
            if not list(layer.children()):
                layer.register_forward_hook(note)
        yield

    def note(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        each = [tensor.numel() for tensor in (*inputs, output) if isinstance(tensor, Tensor)]
        sizes.append(sum(each) + max(each))

    return _probe(variant, watched, lambda: max(sizes), folded=True)


def _probe(
    variant: Variant,
    watch: Callable[[nn.Module], contextlib.AbstractContextManager[object]],
    found: Callable[[], int],
    *,
    folded: bool,
    side: int = _SIDE_PX,
) -> float:
    """What `watch` found, for a pixel, in a run on the meta device, which computes shapes and nothing else.

    In a real one for networks of other packages whose code looks at numbers.
    """
    side = -(-side // variant.multiple_of) * variant.multiple_of
    for device in (torch.device("meta"), torch.device("cpu")):
        with contextlib.suppress(RuntimeError) if device.type == "meta" else contextlib.nullcontext(), device:
            # Moved there too: what was built around weights in memory is not made of meta tensors.
            module = variant.build().to(device).eval()
            if folded:
                fold_ends(module)
            with torch.inference_mode(), watch(module):
                module(torch.full((1, 3, side, side), 0.5))
            break
    return found() / side**2
