"""The command in this process, over a network that needs no weights; and folders in which something is wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nearest_engine import NearestEngine
from pictures import frame, write
from typer.testing import CliRunner, Result

from upscale_cli import run as verb
from upscale_cli.cli.app import app
from upscale_cli.errors import UpscaleError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, and nearest neighbour for every network."""

    def opener(model: str, scale: int, **_: object) -> NearestEngine:
        return NearestEngine(scale)

    for function in (verb.run, verb.forecast):
        monkeypatch.setitem(function.__kwdefaults__, "opener", opener)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".lock"))]


def upscale(*words: str, model: str = "bicubic") -> Result:
    """Run the command; an error meant for `main` becomes its exit code and text, any other is raised."""
    result = CliRunner().invoke(app, [*words, "-m", model])
    if isinstance(result.exception, UpscaleError):
        result.exit_code = result.exception.exit_code
        result.stderr_bytes = f"error: {result.exception}\n".encode("utf-8", "surrogateescape")
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def program(
    *words: str, pause: float = 0.0, before: str = "", prefix: tuple[str, ...] = (), **options: Any
) -> "subprocess.Popen[Any]":
    """`upscale` in a process of its own, after some Python; every tile takes `pause` seconds."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from nearest_engine import NearestEngine
from upscale_cli import run
from upscale_cli.cli.app import main
opener = lambda name, scale, **_: NearestEngine(scale, before=lambda _: time.sleep({pause}))
run.run.__kwdefaults__["opener"] = opener
{before}
main()
"""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code, *words, "-m", "bicubic"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        **({"text": True, "errors": "surrogateescape"} | options),
    )


def ended(child: "subprocess.Popen[Any]") -> tuple[int, Any, Any]:
    """Exit code, output and errors."""
    with child:
        output, errors = child.communicate(timeout=60)
    return child.returncode, output, errors


def names(folder: str | Path) -> list[str]:
    """What is to be seen in a folder."""
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))


def folder_with(**files: bytes) -> Path:
    """`in/` with a sound picture before and one after some others; `bad_jpg=` stands for `bad.jpg`."""
    Path("in").mkdir()
    for name in ("a.png", "z.png"):
        write(Path("in") / name, frame())
    for name, data in files.items():
        (Path("in") / name.replace("_", ".")).write_bytes(data)
    return Path("in")


def refused(*words: str, **files: bytes) -> dict[str, str]:
    """What is said of each bad file in a folder, once it is certain that it harmed nothing else."""
    folder_with(**files)
    result = upscale("in", "-o", "out", *words)
    assert result.exit_code == 1
    assert names("out") == ["a_x2.png", "z_x2.png"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    said = {line.split(": ")[1].removeprefix("in/"): line.split(": ", 2)[2] for line in lines}
    assert sorted(said) == sorted(name.replace("_", ".") for name in files)
    assert all(len(reason) < 300 for reason in said.values())
    assert f"2 made, {len(files)} failed" in result.stderr
    return said
