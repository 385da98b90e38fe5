"""The command `upscale`: joins the commands, sends a path to the default one, and ends every run with an exit code."""

import functools
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer

from upscale_cli import __version__
from upscale_cli.cli.group import DefaultGroup
from upscale_cli.cli.options import CommandWithAliases
from upscale_cli.errors import UpscaleError

EXAMPLES = """Make photographs and videos larger, in batches, offline.

Examples:

- `upscale photos/` : twice the size, beside the originals
- `upscale photos/ -o out -s 4 -r` : four times, into `out/`, with subfolders
- `upscale photo.jpg -o large.png --width 3000` : one picture, to a width
- `upscale film.mp4 -o film.mkv -m lightweight` : a video, with its sound and at its times
- `upscale enhance photos/ -o out` : the look of an expert's retouch
- `upscale photos/ -o out --dry-run` : what would be done, and how long it would take

`upscale run --help` lists all options of making pictures larger; the word `run` may be left out."""

COMMANDS = {  # module and name in upscale_cli.cli
    "run": ("run", "run"),
    "enhance": ("enhance", "enhance"),
    "train": ("train", "app"),
    "eval": ("evaluate", "evaluate"),
    "bench": ("bench", "bench"),
    "models": ("models", "app"),
    "export": ("models.export", "export"),  # another name of `upscale models export`
    "devices": ("devices", "devices"),
}
ALIASED, HIDDEN = ("run", "enhance"), ("export",)


class Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for: `upscale PHOTO` need not wait for what others load."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@functools.cache
def _command(name: str) -> Any:
    module, attribute = COMMANDS[name]
    found = getattr(import_module(f"upscale_cli.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode="markdown")
        found.command(cls=CommandWithAliases if name in ALIASED else None, hidden=name in HIDDEN)(function)
    command = typer.main.get_command(found)
    command.name = name
    return command


class MainGroup(DefaultGroup):
    """The whole program: a reader of its output that goes away ends it without a word."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()  # type: ignore[assignment]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _let_go_of_output()
            raise typer.Exit(141) from None  # as a shell counts a program that SIGPIPE ended


app = typer.Typer(
    cls=MainGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"upscale {__version__}")
        raise typer.Exit


@app.callback(help=EXAMPLES)
def callback(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script: one message and an exit code for whatever goes wrong by somebody's mistake."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no Unicode must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, _Interrupt())
    try:
        try:
            app(prog_name="upscale")
        finally:
            sys.stdout.flush()
    except UpscaleError as error:
        from upscale_cli import render

        render.error(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        _let_go_of_output()
        sys.exit(141)


class _Interrupt:
    """Ctrl-C ends the run; pressed again at once, it does not break into how the run ends and what is said of it."""

    SECONDS = 2.0

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > self.SECONDS:
            raise KeyboardInterrupt


def _let_go_of_output() -> None:
    """Nobody reads it any more: what is still to be flushed at the end goes nowhere, without a complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
