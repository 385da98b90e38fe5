"""`-` for a picture that comes or goes through a pipe: by way of a temporary folder, since decoders seek."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from upscale_cli.errors import UsageError

PIPE = "-"


@contextlib.contextmanager
def piped(words: Sequence[str], output: Path | None) -> Iterator[tuple[list[str], Path | None]]:
    """The inputs and the output to work with: standard input stands in a file, standard output for a folder.

    While the output goes to standard output, whatever else would be printed there goes to standard error; on leaving,
    the picture made is copied. Raises UsageError where `-` cannot mean anything.
    """
    to_pipe = output is not None and str(output) == PIPE
    if PIPE not in words and not to_pipe:
        yield list(words), output
        return
    if PIPE in words and output is None:
        raise UsageError("A picture from standard input has no folder of its own. Say with -o where it goes.")
    if to_pipe and (len(words) != 1 or Path(words[0]).is_dir()):
        raise UsageError("Standard output takes one picture. Give one with -o -, or choose a folder for many.")
    with TemporaryDirectory(prefix="upscale-") as name:
        folder = Path(name)
        if PIPE in words:
            with (folder / "stdin").open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        words = [str(folder / "stdin") if word == PIPE else word for word in words]
        if not to_pipe:
            yield words, output
            return
        made = folder / "made"
        made.mkdir()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield words, made
        finally:  # the command ends by an exception that carries its exit code
            for picture in made.glob("[!.]*"):
                with picture.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
