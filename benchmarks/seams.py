"""Seams: how far the picture made of tiles is from the one made whole, for every network and several margins.

Owns the measurement behind `margin` in the zoo's variants: the smallest one with which 99.9 % of all values lie within
1/255 of the picture made whole, on a demo photograph, in fp32; `upscale_cli/seams.py` compares the two. Exact variants
are measured with weights or, where none are trained, with random ones: their margin covers the receptive radius,
whatever the weights. The others need weights. Refuses to time anything.

    python benchmarks/seams.py                       # every variant, its margin and those around it
    python benchmarks/seams.py edsr-x4 --margins 4 8 12 16
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upscale_cli import seams, zoo
from upscale_cli.engines.eager import EagerEngine
from upscale_cli.errors import UpscaleError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.manifest import load_manifest
from upscale_cli.model import Model
from upscale_cli.weights.loading import load_module

HERE = Path(__file__).parent


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
    declared: int
    exact: bool
    seam: seams.Seam


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


def measure(network: Network, photo: npt.NDArray[np.uint8], margins: list[int], tile_px: int) -> Iterator[Row]:
    """The middle of the photograph whole, then in 3 x 3 tiles with each margin."""
    variant = network.variant
    engine = EagerEngine(Model(network.name, variant, network.module, device=torch.device("cpu"), precision="fp32"))
    for seam in seams.measure(engine, photo, margins, tile_px):
        yield Row(network.name, variant.name, network.weights, variant.margin, variant.exact, seam)


def flat(row: Row) -> dict[str, object]:
    """A row as results/seams.json has it."""
    facts = asdict(row)
    return facts | facts.pop("seam")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="rows of the manifest or variants of the zoo; all by default")
    parser.add_argument("--margins", type=int, nargs="+")
    parser.add_argument("--photo", type=Path, default=HERE / "photos" / "spices.jpg")
    parser.add_argument("--tile", type=int, default=seams.TILE_PX, help="side in pixels; grows with the margin")
    arguments = parser.parse_args()
    photo = read_rgb8(arguments.photo)

    print(f"{'network':28} {'weights':8} {'margin':>6} {'tile':>5} {'worst/255':>10} {'beyond 1/255':>13}")
    rows: list[Row] = []
    smallest: dict[str, int | None] = {}
    for network in networks(arguments.models):
        margins = arguments.margins or seams.margins_for(network.variant.margin, exact=network.variant.exact)
        found = list(measure(network, photo, margins, arguments.tile))
        for row in found:
            seam = row.seam
            mark = " <- declared" if seam.margin == row.declared else ""
            line = f"{row.name:28} {row.weights:8} {seam.margin:6} {seam.tile_px:5} {seam.worst:10.4f}"
            line += f" {seam.beyond:13.4%}"
            print(line + mark, flush=True)
        rows += found
        smallest[network.name] = min((row.seam.margin for row in found if row.seam.enough), default=None)
    document = {
        "benchmark": "seams",
        "photo": arguments.photo.name,
        "torch": torch.__version__,
        "smallest_margin": smallest,
        "too_small": sorted({row.name for row in rows if row.seam.margin == row.declared and not row.seam.enough}),
        "rows": [flat(row) for row in rows],
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
