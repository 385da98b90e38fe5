"""`upscale train prepare`: pictures in, a folder of shards out, which a training reads without decoding anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from upscale_cli.errors import UsageError
from upscale_cli.media.paths import shown
from upscale_cli.train.data.layouts import Wish, recognise
from upscale_cli.train.data.pictures import Making, Picture, read_pictures
from upscale_cli.train.data.shards import About, Cut, fingerprint, is_shards, open_shards, write_shards
from upscale_cli.train.data.sources import decoded, fault_lines, located


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequest:
    """What to lay out, and how."""

    data: tuple[str, ...]
    folder: Path
    cut: Cut = Cut()  # noqa: RUF009  frozen
    scale: int = 0
    """LR is laid out beside HR: that of the pairs, or made by bicubic; 0 lays out HR alone."""
    sharpen: bool = False
    expert: str = "C"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What lies in the folder."""

    folder: Path
    layout: str
    pictures: int
    parts: int
    bytes: int
    faults: tuple[str, ...]
    """What could not be used, a line each."""
    made: bool
    """False where the folder held just this already."""


def prepare(request: PrepareRequest, *, progress: Callable[[int, int], None] = lambda *_: None) -> PrepareReport:
    """Write the shards, whole or not at all; `progress` is told pictures done and in all.

    UsageError where nothing can be used, or the folder holds something else.
    """
    folder, scale = request.folder, request.scale
    # What is fetched or unpacked is kept beside, so that doing it again costs nothing.
    layout = recognise(
        located(request.data, folder.with_name(f"{folder.name}.cache")), Wish(scale, expert=request.expert)
    )
    if layout.kind == "unpaired":
        raise UsageError("Domains without pairs are prepared one by one: give trainA and trainB apart.")
    paired = any(item.lr for item in layout.items)
    if layout.kind == "fivek":
        scale = 1
    files = [file for item in layout.items for file in (item.hr, item.lr) if file]
    mark = fingerprint(files, request.cut, scale, request.sharpen, request.expert)
    if made := _there(request, mark):
        return replace(made, layout=layout.description)
    faults, done = list(layout.faults), 0
    making = Making(max(1, scale), 1, "bicubic", request.sharpen, patch_px=1, matched=layout.kind == "fivek")

    def step(_name: str) -> None:
        nonlocal done
        done += 1
        progress(done, len(layout.items))

    def read() -> Iterator[Picture]:
        yield from decoded(layout.items, lambda item: read_pictures(item, making, 0)[0], faults)
        if not done:
            raise UsageError(f"No picture can be used:{fault_lines(faults)}")

    about = About(mark, scale, request.sharpen, paired)
    parts = write_shards(folder, read(), about, request.cut, step)
    return PrepareReport(folder, layout.description, done, parts, _bytes(folder), tuple(faults), made=True)


def _there(request: PrepareRequest, mark: str) -> PrepareReport | None:
    """What the folder holds, if that is what is asked for."""
    folder = request.folder
    if not is_shards(folder):
        return None  # which the writer refuses
    shards = open_shards(folder)
    if shards.about.fingerprint == mark:
        files = len(set(shards.files))
        return PrepareReport(folder, "", files, len(shards.pictures), _bytes(folder), (), made=False)
    if not request.overwrite:
        raise UsageError(f"{shown(folder)} holds shards of other pictures or settings. Use --overwrite, or another -o.")
    return None


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
