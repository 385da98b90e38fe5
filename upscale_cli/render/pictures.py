"""The main command on the screen: what is under way, a line a picture, the plan, the summary, and their JSON."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from upscale_cli.errors import UsageError
from upscale_cli.media.paths import shown
from upscale_cli.render import screen

if TYPE_CHECKING:
    from upscale_cli.jobs import Item, Plan, State
    from upscale_cli.run import FileReport, Forecast, News, RunReport

STATES = ("made", "done", "skipped", "failed", "left")
MANY = 20
"""Lines after which a summary says again what has scrolled away."""


class HeaderBar(screen.Bar):
    """Progress of reading headers, once it takes longer than a moment."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(TextColumn("reading headers"), BarColumn(), MofNCompleteColumn(), quiet=quiet)

    def __enter__(self) -> Self:
        return self  # begun when there is much to read

    def update(self, done: int, total: int) -> None:
        """`done` of `total` headers are read."""
        if total > MANY:
            self._progress.start()
            self._progress.update(self._task, completed=done, total=total)


class _Speed(ProgressColumn):
    """Megapixels written a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} MP/s")


class RunDisplay:
    """Everything shown while a plan is carried out: a bar on a terminal, a line a picture, and the lines of --report.

    Use as a context manager; `tell` takes the news of `run`.
    """

    def __init__(self, plan: "Plan", *, as_json: bool, verbose: bool, report: Path | None) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._sizes = {item.source: _megapixels(item) for item in plan.having("todo")}
        self._frames = {item.source: item.info.frames for item in plan.having("todo") if item.info}
        self._begun: dict[Path, tuple[float, int]] = {}
        self._tally = dict.fromkeys(STATES, 0)
        self._total = len(self._sizes)
        self._console = screen.errors()
        self._lines = Console(highlight=False, soft_wrap=True)
        shows = self._console.is_terminal and not as_json
        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            _Speed(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not shows,
        )
        if shows and self._lines.is_terminal:
            self._lines = self._console  # above the bar, not through it
        self._megapixels = 0.0
        self._under_way: dict[Path, float] = {}
        self._task = self._progress.add_task("", total=sum(self._sizes.values()), count=self._count())
        self._report = _open_report(report) if report else None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._report:
            self._report.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            left = self._total - self._tally["made"]
            self._console.print(
                f"Interrupted: {self._tally['made']} made, {left} left. The same command goes on from here."
            )

    def tell(self, news: "News") -> None:
        """Show it."""
        if news.waiting_for is not None:
            here = news.waiting_for.resolve() == Path().resolve()
            folder = "this folder" if here else shown(news.waiting_for)
            self._console.print(
                f"Another run is writing to {folder}. Waiting for it to end; Ctrl-C gives up.", markup=False
            )
        elif news.finished is not None:
            self._finished(news.finished)
        elif news.picked:
            if news.remark:
                screen.warning(news.remark)
            self._console.print(news.picked, style="dim", markup=False)
        elif news.trouble:
            screen.warning(news.trouble)
        elif news.opening:
            self._progress.update(self._task, description=f"opening {news.opening}")
        elif news.source is not None:
            self._under_way[news.source] = self._sizes.get(news.source, 0.0) * news.fraction
            completed = self._megapixels + sum(self._under_way.values())
            self._progress.update(self._task, completed=completed, description=self._described(news))

    def _described(self, news: "News") -> str:
        """What is under way; of a video how far, how fast, and how large it is so far."""
        assert news.source is not None
        name = shown(news.source.name)
        if not news.frames:
            return name
        since, first = self._begun.setdefault(news.source, (time.monotonic(), news.frames))
        seconds = time.monotonic() - since
        pace = f", {(news.frames - first) / seconds:.1f} frames/s" if news.frames > first and seconds else ""
        return f"{name}: {news.frames} of {self._frames[news.source]} frames{pace}, {screen.in_bytes(news.bytes)}"

    def _finished(self, file: "FileReport") -> None:
        self._tally[file.state] += 1
        self._megapixels += self._sizes.get(file.source, 0.0)
        self._under_way.pop(file.source, None)
        self._progress.update(self._task, completed=self._megapixels, count=self._count())
        if self._report:
            self._report.write(json.dumps(_file_json(file)) + "\n")
            self._report.flush()
        if file.state == "failed":
            self._console.print(Text.assemble(("failed: ", "bold red"), _failure(file)))
        elif not self._as_json and (file.state not in ("done", "left") or self._verbose):
            self._lines.print(Text(_line(file, verbose=self._verbose)))
        if file.missing:
            self._console.print(Text.assemble(("incomplete: ", "bold red"), f"{shown(file.source)}: {file.missing}"))

    def _count(self) -> str:
        return f"{self._tally['made']}/{self._total}"


def ran(report: "RunReport", *, as_json: bool) -> None:
    """The summary at the end; as JSON all of it."""
    pixels = sum(file.out_pixels for file in report.files if file.state == "made")
    speed = pixels / 1e6 / report.seconds if report.seconds else 0.0
    count = {state: sum(file.state == state for file in report.files) for state in STATES}
    if as_json:
        files = [_file_json(file) for file in report.files]
        figures = {"seconds": round(report.seconds, 3), "megapixels_per_second": round(speed, 3)}
        return screen.print_json({"files": files, **count, **figures, "exit_code": report.exit_code})
    failed = [file for file in report.files if file.state == "failed"]
    if len(report.files) > MANY:
        for file in failed:
            screen.errors().print(Text.assemble(("failed: ", "bold red"), _failure(file)))
    for reason, number in Counter(file.reason for file in report.files if file.state == "left").items():
        screen.errors().print(
            Text.assemble(("left: ", "bold red"), f"{number} of {len(report.files)}, {shown(reason)}")
        )
    parts = [f"{count['made']} made"]
    if count["done"]:
        parts.append(f"{count['done']} done by an earlier run")
    parts += [f"{count[state]} {state}" for state in ("skipped", "failed", "left") if count[state]]
    pace = f" in {screen.seconds(report.seconds)}, {speed:.1f} MP/s" if count["made"] else ""
    screen.errors().print(f"{', '.join(parts)}{pace}.", style="bold")


def planned(plan: "Plan", forecasts: "dict[Path, Forecast]", *, as_json: bool) -> None:
    """What would be done, and what it would take."""
    if as_json:
        rows = [_item_json(item, forecasts.get(item.source)) for item in plan.items]
        return screen.print_json({"plan": rows, "warnings": list(plan.warnings)})
    # Two lines a picture: side by side nothing of it would be legible on 80 columns.
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("picture\n-> output", overflow="fold")
    for title in ("from\nto", "through\ntiles", "about\nmemory"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in plan.items:
        table.add_row(*_plan_row(item, forecasts.get(item.source)))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=screen.WIDE)).print(table)
    screen.errors().print(_plan_total(plan, forecasts), style="bold")


def _plan_row(item: "Item", forecast: "Forecast | None") -> Iterator[Text]:
    info, job = item.info, item.job
    name = Text(shown(item.source))
    if item.state != "todo" or not job or not info:
        word = "" if item.state == "done" else f"{item.state}: "
        yield name.append(f"\n{word}{shown(item.reason)}", "red" if item.state == "failed" else "dim")
        return
    name.append(f"\n-> {shown(job.target)}")
    for note in (*filter(None, [item.reason]), *item.notes, *item.losses):
        name.append(f"\n   {shown(note)}", "yellow")
    yield name
    yield Text(f"{info.width} x {info.height}\n{job.width} x {job.height}")
    tiles = f"{forecast.tiles} of {forecast.tile_px} px" if forecast else ""
    yield Text(f"{item.through}\n{tiles}")
    yield Text(f"{screen.seconds(forecast.seconds)}\n{screen.in_bytes(forecast.bytes)}" if forecast else "")


def _plan_total(plan: "Plan", forecasts: "dict[Path, Forecast]") -> str:
    todo = plan.having("todo")
    parts = [f"{len(todo)} to make ({sum(map(_megapixels, todo)):.1f} MP)"]
    if forecasts:
        parts[0] += f" in about {screen.seconds(sum(forecast.seconds for forecast in forecasts.values()))}"
    counts = Counter(item.state for item in plan.items)
    words: dict[State, str] = {"done": "done by an earlier run", "skipped": "skipped", "failed": "failed"}
    parts += [f"{counts[state]} {word}" for state, word in words.items() if counts[state]]
    return f"{', '.join(parts)}. Nothing was written."


def _megapixels(item: "Item") -> float:
    if not item.job or not item.info:
        return 0.0
    return item.job.height * item.job.width * item.info.frames / 1e6


def _failure(file: "FileReport") -> str:
    return f"{shown(file.source)}: {shown(file.reason)}"


def _line(file: "FileReport", *, verbose: bool) -> str:
    """One picture on one line, with everything that was lost on the way."""
    if file.state != "made" or file.target is None or file.in_size is None or file.out_size is None:
        return f"{shown(file.source)}: {file.state}, {shown(file.reason)}"
    size = f"{file.in_size[0]} x {file.in_size[1]} -> {file.out_size[0]} x {file.out_size[1]}"
    parts = [f"{shown(file.source)} -> {shown(file.target)}", size, screen.seconds(file.seconds)]
    if verbose and file.model:
        tiles = f", tiles of {file.tile_px} px" if file.tile_px else ""
        parts.append(f"{file.model}, {file.precision} by {file.backend}{tiles}")
        parts += [f"{file.retries} retries"] if file.retries else []
    return "  ".join(parts) + "".join(f"\n  {shown(note)}" for note in file.notes)


def _file_json(file: "FileReport") -> dict[str, Any]:
    return {**asdict(file), "source": str(file.source), "target": file.target and str(file.target)}


def _item_json(item: "Item", forecast: "Forecast | None") -> dict[str, Any]:
    info, job = item.info, item.job
    return {
        "source": str(item.source),
        "target": str(job.target) if job else None,
        "state": item.state,
        "reason": item.reason,
        "notes": [*item.notes, *item.losses],
        "in_size": [info.width, info.height] if info else None,
        "out_size": [job.width, job.height] if job else None,
        "frames": info.frames if info else None,
        "format": job.format if job else None,
        "networks": [stage.name for stage in item.stages],
        "keyframe_networks": [network.name for network in item.chain.keys],
        "style": item.style or None,
        "forecast": asdict(forecast) if forecast else None,
    }


def _open_report(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="ascii")
    except OSError as fault:
        raise UsageError(f"--report {path} cannot be written: {(fault.strerror or str(fault)).lower()}.") from fault
