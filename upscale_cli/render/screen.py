"""The screen: messages, the two consoles, JSON, and units for people."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from upscale_cli.media.paths import shown

if TYPE_CHECKING:
    from upscale_cli.device import DeviceInfo

WIDE = 240
"""Columns of a table that nobody looks at on a terminal."""


class Bar:
    """Progress on standard error, where that is a terminal and nobody asked for quiet. Use as a context manager."""

    def __init__(self, *columns: ProgressColumn, quiet: bool, task: str = "") -> None:
        self._console = errors()
        shows = self._console.is_terminal and not quiet
        self._progress = Progress(*columns, console=self._console, transient=True, disable=not shows)
        self._task = self._progress.add_task(task, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def error(message: str) -> None:
    """One failure, to standard error."""
    errors().print(Text.assemble(("error: ", "bold red"), "\n".join(shown(line) for line in message.split("\n"))))


def warning(message: str) -> None:
    """Something to know before it matters."""
    errors().print(Text.assemble(("note: ", "yellow"), "\n".join(shown(line) for line in message.split("\n"))))


def seconds(value: float) -> str:
    """A duration for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def errors() -> Console:
    """The console on standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def output() -> Console:
    """The console on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=WIDE)


def print_json(value: object) -> None:
    """One JSON document, to standard output."""
    # ASCII with escapes: names that are no UTF-8 come through any pipe and back.
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def in_bytes(value: float) -> str:
    """A size for people: `850 MB`, `1.2 GB`."""
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def devices(found: "Sequence[DeviceInfo]", *, as_json: bool) -> None:
    """What `--device` takes on this machine, best first."""
    if as_json:
        return print_json({"devices": [asdict(device) for device in found]})
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("device", "what it is", "precision"):
        table.add_column(title)
    table.add_column("memory", justify="right")
    for device in found:
        table.add_row(device.name, Text(device.description), device.precision, in_bytes(device.memory_bytes))
    output().print(table)
