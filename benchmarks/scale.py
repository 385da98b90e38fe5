"""Memory and seconds a megapixel of `upscale` on large pictures, and its memory over thousands of small files.

Owns the measurement: a picture of N megapixels is made of the demo photographs side by side, and a folder of hard links
to one small crop; `upscale` enlarges each as a whole process. What starting costs is taken from a picture of a few
pixels and told apart, or small pictures would seem slow. Refuses to count a run whose file has not the size asked for.

    python benchmarks/scale.py                                  # 1, 10 and 100 megapixels, 10,000 files
    python benchmarks/scale.py --megapixels 1 4 --files 200 --no-save
    python benchmarks/scale.py -m edsr -s 2 --format tiff --files 0

The last line is one JSON document, also written to benchmarks/results/. Needs Linux: it reads /proc.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from machine import as_installed, machine
from peers import Turn, whole_process
from PIL import Image

HERE = Path(__file__).parent
ASPECT = 1.5
SMALL = (64, 48)
TENTHS = 10
GIGAPIXELS = 4_000_000_000  # Pillow shall open what was made, to read its size


@dataclass(frozen=True, slots=True)
class Large:
    """One size of picture: medians over rounds."""

    megapixels: float
    out_megapixels: float
    seconds: float
    """Of the whole process."""
    seconds_per_megapixel: float
    """Of input, without what starting takes."""
    to_smallest: float
    """Those seconds over those of the smallest picture here."""
    cpu_seconds: float
    peak_mb: float
    file_mb: float


@dataclass(frozen=True, slots=True)
class Many:
    """A folder of small files."""

    files: int
    seconds: float
    files_per_second: float
    resident_mb: tuple[float, ...]
    """When a tenth, two tenths, ... of the files were made."""
    growth_mb: float
    """From the second tenth to the last."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured: model, factor, format."""

    model: str
    factor: int
    format: str
    cache: Path

    def command(self, source: Path, out: Path) -> list[str]:
        words = ["-m", self.model, "-s", str(self.factor), "-f", self.format, "-o", str(out), "--json"]
        return [sys.executable, "-m", "upscale_cli", str(source), *words]

    def turn(self, source: Path, folder: Path) -> tuple[Turn, int]:
        """One picture in a process of its own, and the size of the file it made."""
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out = Path(scratch, f"made.{self.format}")
            turn = whole_process(self.command(source, out), self.cache)
            with Image.open(source) as before, Image.open(out) as after:
                if after.size != (before.width * self.factor, before.height * self.factor):
                    raise SystemExit(f"{source.name} became {after.width} x {after.height}")
            return turn, out.stat().st_size

    def large(self, megapixels: float, folder: Path, *, rounds: int, start: float, smallest: float | None) -> Large:
        source = quilt(folder / f"{megapixels:g}.jpg", megapixels)
        turns, sizes = zip(*(self.turn(source, folder) for _ in range(rounds)), strict=True)
        with Image.open(source) as image:
            pixels = image.width * image.height / 1e6
        source.unlink()
        seconds = median(turn.seconds for turn in turns)
        each = (seconds - start) / pixels
        return Large(
            megapixels=round(pixels, 3),
            out_megapixels=round(pixels * self.factor**2, 2),
            seconds=round(seconds, 3),
            seconds_per_megapixel=round(each, 4),
            to_smallest=round(each / (smallest or each), 3),
            cpu_seconds=round(median(turn.cpu_seconds for turn in turns), 3),
            peak_mb=round(max(turn.peak_bytes for turn in turns) / 1e6, 1),
            file_mb=round(sizes[0] / 1e6, 1),
        )

    def many(self, files: int, folder: Path) -> Many:
        """A folder of so many links to one small picture, watched from outside while it is worked through."""
        source, out = folder / "small", folder / "made"
        source.mkdir()
        out.mkdir()
        first = crop(source / "00000.jpg")
        for index in range(1, files):
            os.link(first, source / f"{index:05}.jpg")
        found: list[float] = []
        began = time.perf_counter()
        environment = {**os.environ, "UPSCALE_CACHE": str(self.cache)}
        command = self.command(source, out)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
            while process.poll() is None:
                resident, made = resident_mb(process.pid), sum(1 for _ in os.scandir(out))
                while resident and len(found) < TENTHS and made >= files * (len(found) + 1) / TENTHS:
                    found.append(resident)
                time.sleep(0.05)
            words = process.stderr.read().decode() if process.stderr else ""
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(words)
        return Many(
            files=files,
            seconds=round(seconds, 2),
            files_per_second=round(files / seconds, 1),
            resident_mb=tuple(found),
            growth_mb=round(found[-1] - found[min(1, len(found) - 1)], 1),
        )


def quilt(path: Path, megapixels: float) -> Path:
    """A JPEG of that many megapixels, 3 : 2, of the demo photographs side by side, again and again."""
    height = math.isqrt(round(megapixels * 1e6 / ASPECT))
    picture = Image.new("RGB", (round(height * ASPECT), height))
    photos = [Image.open(each) for each in sorted((HERE / "photos").glob("*.jpg"))]
    top = index = 0
    while top < picture.height:
        left, row = 0, top
        while left < picture.width:
            photo = photos[index % len(photos)]
            picture.paste(photo, (left, top))
            left, index, row = left + photo.width, index + 1, max(row, top + photo.height)
        top = row
    picture.save(path, quality=95)
    return path


def crop(path: Path) -> Path:
    with Image.open(HERE / "photos" / "spices.jpg") as photo:
        photo.crop((100, 100, 100 + SMALL[0], 100 + SMALL[1])).save(path)
    return path


def resident_mb(pid: int) -> float | None:
    """What the process holds in memory now; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return round(found[0] * 1024 / 1e6, 1) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", "--model", default="lightweight")
    parser.add_argument("-s", "--scale", type=int, default=4)
    parser.add_argument("--format", choices=("png", "tiff", "jpg"), default="png")
    parser.add_argument("--megapixels", type=float, nargs="*", default=[1, 10, 100], help="the smallest first")
    parser.add_argument("--files", type=int, default=10_000, help="small files in a folder; 0 for none")
    parser.add_argument("--rounds", type=int, default=3, help="of each picture")
    parser.add_argument("--folder", type=Path, help="where there is room for the pictures; else the system's own")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    as_installed()
    Image.MAX_IMAGE_PIXELS = GIGAPIXELS
    rows: list[Large] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        scale = Scale(options.model, options.scale, options.format, folder / "cache")
        tiny = crop(folder / "tiny.jpg")
        scale.turn(tiny, folder)  # fills caches
        start = median(scale.turn(tiny, folder)[0].seconds for _ in range(options.rounds))
        for megapixels in options.megapixels:
            smallest = rows[0].seconds_per_megapixel if rows else None
            rows.append(scale.large(megapixels, folder, rounds=options.rounds, start=start, smallest=smallest))
            print(rows[-1], flush=True)
        many = scale.many(options.files, folder) if options.files else None
        print(many, flush=True)
    document = {
        "benchmark": "scale",
        "date": time.strftime("%Y-%m-%d"),
        "model": options.model,
        "scale": options.scale,
        "format": options.format,
        "rounds": options.rounds,
        "start_seconds": round(start, 3),
        "machine": machine(torch.device("cpu"), ("torch", "numpy", "pillow", "opencv-python", "isal", "openvino")),
        "pictures": [asdict(row) for row in rows],
        "files": asdict(many) if many else None,
    }
    if not options.no_save:
        target = HERE / "results" / "scale.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
