"""Seams: how far the picture made of tiles is from the one made whole, for every network and several margins.

Owns the measurement behind `margin` in the zoo's variants: the smallest one with which 99.9 % of all values lie within
1/255 of the picture made whole, on a demo photograph, in fp32. Both go through the Upscaler, in 16 bits, so that the
network is compared and not the rounding. Exact variants are measured with weights or, where none are trained, with
random ones: their margin covers the receptive radius, whatever the weights. The others need weights. Refuses to time
anything.

    python benchmarks/seams.py                       # every variant, its margin and those around it
    python benchmarks/seams.py edsr-x4 --margins 4 8 12 16
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upscale_cli import zoo
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import UpscaleError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.manifest import load_manifest
from upscale_cli.media.frame import Frame
from upscale_cli.model import Model
from upscale_cli.pipeline import Upscaler
from upscale_cli.tiles import RAMP_PX, smallest_tile
from upscale_cli.weights.loading import load_module

HERE = Path(__file__).parent
STEP = 65535 / 255  # one step of 8 bits in the 16-bit pictures compared
SHARE = 0.999


@dataclass(frozen=True, slots=True)
class Network:
    """A variant with the weights it is measured with."""

    name: str
    variant: zoo.Variant
    module: nn.Module
    weights: str


@dataclass(frozen=True, slots=True)
class Row:
    """One network with one margin."""

    name: str
    variant: str
    weights: str
    margin: int
    declared: int
    exact: bool
    tile_px: int
    worst: float
    """Largest difference, in steps of 8 bits."""
    beyond: float
    """Share of values that differ by more than one step."""

    @property
    def enough(self) -> bool:
        return self.beyond <= 1 - SHARE


def networks(names: list[str]) -> Iterator[Network]:
    """Those named; by default every usable row of the manifest, then the exact variants that no such row is for."""
    entries = {entry.name: entry for entry in load_manifest().entries}
    variants = {variant.name: variant for variant in zoo.variants()}
    if not names:
        usable = [entry for entry in entries.values() if entry.usable]
        covered = {entry.variant for entry in usable}
        rest = [variant.name for variant in variants.values() if variant.exact and variant.name not in covered]
        names = [entry.name for entry in usable] + rest
    for name in names:
        if name in variants:
            torch.manual_seed(0)
            yield Network(name, variants[name], variants[name].build().eval(), "random")
        else:
            title, variant, module = load_module(name, None)
            formula = name in entries and entries[name].status == "formula"
            yield Network(title, variant, module, "formula" if formula else "trained")


def margins_for(variant: zoo.Variant) -> list[int]:
    """The declared margin, shares of it, and for a measured one half as much again."""
    shares = (0, 0.25, 0.5, 0.75, 1) if variant.exact else (0, 0.25, 0.5, 0.75, 1, 1.5)
    return sorted({round(variant.margin * share) for share in shares})


def centre(photo: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    top, left = (max(0, (length - side) // 2) for length in photo.shape[:2])
    return np.ascontiguousarray(photo[top : top + side, left : left + side])


def measure(network: Network, photo: npt.NDArray[np.uint8], margins: list[int], tile_px: int) -> Iterator[Row]:
    """The middle of the photograph whole, then in 3 x 3 tiles with each margin."""
    variant = network.variant
    engine = EagerEngine(Model(network.name, variant, network.module, device=torch.device("cpu"), precision="fp32"))
    for margin in margins:
        side = max(tile_px, math.ceil(1.5 * smallest_tile(margin) / 8) * 8)
        overlap = 2 * margin + RAMP_PX
        # This many pixels take three tiles and leave no slack: evenly spread, they would share more than was asked.
        crop = centre(photo, 3 * side - 2 * overlap)
        frame = Frame(crop.astype(np.uint16) * 257)
        height, width = crop.shape[0] * variant.scale, crop.shape[1] * variant.scale
        whole = Upscaler([engine], tile_px=max(crop.shape)).enlarge(frame, height, width).color.astype(np.int32)
        tiled = Upscaler([engine], tile_px=side, overlap_px=overlap).enlarge(frame, height, width).color
        off = np.abs(tiled - whole)
        yield Row(
            name=network.name,
            variant=variant.name,
            weights=network.weights,
            margin=margin,
            declared=variant.margin,
            exact=variant.exact,
            tile_px=side,
            worst=float(off.max()) / STEP,
            beyond=float((off > STEP).mean()),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="rows of the manifest or variants of the zoo; all by default")
    parser.add_argument("--margins", type=int, nargs="+")
    parser.add_argument("--photo", type=Path, default=HERE / "photos" / "spices.jpg")
    parser.add_argument("--tile", type=int, default=96, help="side in pixels; grows with the margin")
    arguments = parser.parse_args()
    photo = read_rgb8(arguments.photo)

    print(f"{'network':28} {'weights':8} {'margin':>6} {'tile':>5} {'worst/255':>10} {'beyond 1/255':>13}")
    rows: list[Row] = []
    smallest: dict[str, int | None] = {}
    for network in networks(arguments.models):
        found = list(measure(network, photo, arguments.margins or margins_for(network.variant), arguments.tile))
        for row in found:
            mark = " <- declared" if row.margin == row.declared else ""
            line = f"{row.name:28} {row.weights:8} {row.margin:6} {row.tile_px:5} {row.worst:10.4f} {row.beyond:13.4%}"
            print(line + mark, flush=True)
        rows += found
        smallest[network.name] = min((row.margin for row in found if row.enough), default=None)
    document = {
        "benchmark": "seams",
        "photo": arguments.photo.name,
        "torch": torch.__version__,
        "smallest_margin": smallest,
        "too_small": sorted({row.name for row in rows if row.margin == row.declared and not row.enough}),
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(document)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "seams.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except UpscaleError as error:
        raise SystemExit(str(error)) from error
