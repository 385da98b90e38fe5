"""`upscale train prepare fivek`: pairs of MIT-Adobe FiveK out of its DNGs and TIFFs, without a photo editor.

Bychkovsky et al., Learning Photographic Global Tonal Adjustment with a Database of Input/Output Image Pairs, CVPR
2011. The input is what LibRaw develops with the camera's white balance and no brightening, the target an expert's TIFF
brought from its profile (ProPhoto RGB) to sRGB; both are cut about their middle to a common size, made smaller, and
written as 8-bit PNG: OUT/train/input/a0001.png beside OUT/train/expertC/a0001.png, and so for valid and test. The
inputs are not those of papers, which a photo editor has rendered, and scores on them are not theirs either.

The split is fixed by names alone: the first 8 hexadecimal digits of sha256("fivek a0001"), as a number, modulo 20: 0
and 1 are test, 2 is valid, the rest train. It is none of the papers' (DPE, DeepUPE, 3D-LUT and others have lists of
their own). OUT/split.txt holds all 5,000 names, and SPLIT_SHA256 is the hash of that file.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from upscale_cli.errors import InputError, OutputError, UsageError
from upscale_cli.evaluate import Pixels, centred, read_srgb8
from upscale_cli.media.paths import RAW_SUFFIXES, shown, temporary
from upscale_cli.train.data.pictures import scaled

Split = Literal["train", "valid", "test"]

COUNT = 5000
SPLIT_SHA256 = "eb82185c7baa6f4c77fe6d6362fe4a73eaf872a0b09f2aa8955975256c37b160"
SPLIT_FILE = "split.txt"
_NAME = re.compile(r"(a\d{4})(?:[-_].*)?")
_EXPERT = re.compile(r"(?:tiff(?:16)?[_-]?|expert[ _-]?)?([a-e])", re.IGNORECASE)
_RETOUCHED = {".tif", ".tiff", ".jpg", ".jpeg", ".png"}
_THREADS = 2  # a developed DNG takes 100 MB and more


@dataclass(frozen=True, slots=True, kw_only=True)
class FiveKRequest:
    """What to make pairs of."""

    source: Path
    """The official archive, or a mirror: DNGs in it at any depth, TIFFs in folders named after the expert, such as
    tiff16_c, expertC or c."""
    folder: Path
    expert: str = "C"
    photo_px: int = 512
    """Longer side of the pairs; 0 leaves them as large as they are."""


@dataclass(frozen=True, slots=True)
class FiveKReport:
    """What lies in the folder."""

    folder: Path
    counts: dict[str, int]
    """Pairs of train, valid and test."""
    made: int
    """Now; the others were there."""
    faults: tuple[str, ...]
    """What could not be used, a line each."""
    split_sha256: str = SPLIT_SHA256


def split_of(name: str) -> Split:
    """Of `a0001`."""
    rest = int(hashlib.sha256(f"fivek {name}".encode()).hexdigest()[:8], 16) % 20
    return "test" if rest < 2 else "valid" if rest == 2 else "train"


def split_text() -> str:
    """All of FiveK, a name and its part a line."""
    names = (f"a{number:04}" for number in range(1, COUNT + 1))
    return "".join(f"{name} {split_of(name)}\n" for name in names)


def find_pairs(source: Path, expert: str) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...]]:
    """Name -> DNG and retouch, and what has no partner, a line each. UsageError where there is no pair."""
    raws: dict[str, Path] = {}
    retouched: dict[str, Path] = {}
    for path in sorted(_files(source)):
        name = _NAME.fullmatch(path.stem)
        suffix, of = path.suffix.lower(), _EXPERT.fullmatch(path.parent.name)
        if name and suffix in RAW_SUFFIXES:
            raws.setdefault(name[1], path)
        elif name and suffix in _RETOUCHED and of and of[1].upper() == expert:
            retouched.setdefault(name[1], path)
    pairs = {name: (raws[name], retouched[name]) for name in sorted(raws.keys() & retouched.keys())}
    if not pairs:
        raise UsageError(
            f"{shown(source)} holds {len(raws)} RAW files and {len(retouched)} retouched ones of expert {expert}, but "
            f"no pair. Retouched ones are looked for in folders named tiff16_{expert.lower()}, expert{expert} or "
            f"{expert.lower()}."
        )
    faults = [f"{raws[name].name}: no picture of expert {expert}" for name in sorted(raws.keys() - pairs.keys())]
    return pairs, tuple(faults)


def prepare_fivek(request: FiveKRequest, *, progress: Callable[[int, int], None] = lambda *_: None) -> FiveKReport:
    """Make every pair that is not there yet; `progress` is told pairs done and in all.

    UsageError where there is no pair or the folder holds pairs of other settings, OutputError where it cannot be
    written. What cannot be read is among the faults.
    """
    pairs, unpaired = find_pairs(request.source, request.expert)
    _mark(request)
    counts: dict[str, int] = dict.fromkeys(("train", "valid", "test"), 0)
    faults, made = list(unpaired), 0

    def make(name: str) -> bool:
        return _make(request, name, *pairs[name])

    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (name, making) in enumerate([(name, pool.submit(make, name)) for name in pairs], 1):
            try:
                made += making.result()
                counts[split_of(name)] += 1
            except InputError as error:
                faults.append(str(error))
            progress(done, len(pairs))
    if not any(counts.values()):
        raise UsageError("No pair can be used:" + "".join(f"\n  {fault}" for fault in faults[:20]))
    return FiveKReport(request.folder, counts, made, tuple(faults))


def _files(source: Path) -> Iterable[Path]:
    if not source.is_dir():
        raise UsageError(f"{shown(source)} is no folder. Give the folder of FiveK.")
    for folder, _, names in os.walk(source):
        yield from (Path(folder) / name for name in names)


def _mark(request: FiveKRequest) -> None:
    """Write the split and the settings, or make sure that they are those of the pairs that are there."""
    settings = f"expert {request.expert}, longer side {request.photo_px or 'as it is'}\n"
    note = request.folder / "settings.txt"
    try:
        if note.exists() and note.read_text("utf-8") != settings:
            raise UsageError(f"{shown(request.folder)} holds pairs of other settings. Choose another -o.")
        request.folder.mkdir(parents=True, exist_ok=True)
        (request.folder / SPLIT_FILE).write_text(split_text(), "utf-8")
        note.write_text(settings, "utf-8")
    except OSError as error:
        raise OutputError(f"{shown(request.folder)} cannot be written: {error.strerror}.") from error


def _make(request: FiveKRequest, name: str, raw: Path, retouched: Path) -> bool:
    """One pair, unless it is there; the target last, so that a pair with a target is whole."""
    folder = request.folder / split_of(name)
    target = folder / f"expert{request.expert}" / f"{name}.png"
    if target.exists():
        return False
    pair = centred(read_srgb8(retouched), read_srgb8(raw), name)
    hr, lr = (scaled(each, request.photo_px) for each in pair)
    _write(folder / "input" / f"{name}.png", lr)
    _write(target, hr)
    return True


def _write(path: Path, pixels: Pixels) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = temporary(path)
        Image.fromarray(pixels).save(part, "PNG")
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{shown(path)} cannot be written: {error.strerror}.") from error
