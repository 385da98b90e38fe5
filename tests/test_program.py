"""`upscale` as the shell meets it: a process of its own, with pipes, signals and terminals."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import names
from pictures import frame, write

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def program(*words: str, code: str = "", stdout: int = subprocess.PIPE, **variables: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `upscale` (or of Python code before it) in a process of its own."""
    start = ["-c", code] if code else ["-m", "upscale_cli"]
    child = subprocess.run(
        [sys.executable, *start, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**ENVIRONMENT, **variables},
    )
    return child.returncode, child.stdout, child.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["none.jpg"], ["modles"]])
def test_answers_without_torch(words: list[str]) -> None:
    code = """
import sys
from upscale_cli.cli.app import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""
    assert program(*words, code=code)[2].splitlines()[-1] == "False"


def test_a_picture_does_not_wait_for_what_other_commands_load() -> None:
    code = """
import sys
from upscale_cli.cli.app import main
try:
    main()
finally:
    others = {f"upscale_cli.cli.{name}" for name in ("bench", "devices", "evaluate", "models", "train")}
    print(sorted(others & sys.modules.keys()))
"""
    found, text, _ = program("none.jpg", code=code)
    assert (found, text) == (2, "[]\n")


def test_help_shows_commands_and_examples() -> None:
    _, text, _ = program("--help")
    for word in ("upscale photos/", "--version", "--install-completion"):
        assert word in text
    listed = re.findall(r"│ (\w+)  +[A-Z]", text)
    assert listed == ["run", "enhance", "train", "eval", "bench", "models", "devices"]
    assert "--install-completion" not in program("train", "--help")[1]
    assert program("--version")[1].startswith("upscale 0.")


def test_a_mistake_is_one_line_and_no_traceback() -> None:
    message = "error: none.jpg: there is no such file or folder. No picture was found.\n"
    assert program("none.jpg") == (2, "", message)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_closed_pipe_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code, _, errors = program("models", "list", "--json", stdout=writing)
    os.close(writing)
    assert (code, errors) == (141, "")


def test_a_terminal_without_unicode() -> None:
    code, _, errors = program("日本.png", PYTHONIOENCODING="ascii")
    assert (code, errors.split(":")[1]) == (2, r" \u65e5\u672c.png")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("a.png", "b.jpg"):
        write(Path("in") / name, frame())
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from nearest_engine import NearestEngine
from upscale_cli import run
from upscale_cli.cli.app import main
def interrupt(tiles):
    os.kill(os.getpid(), signal.SIGINT)
run.run.__kwdefaults__["opener"] = lambda name, scale, **_: NearestEngine(scale, before=interrupt)
main()
"""
    code, output, errors = program("in", "-o", "out", "-m", "bicubic", code=script)
    assert code == 130
    assert output == ""
    assert errors.endswith("\nInterrupted: 0 made, 2 left. The same command goes on from here.\n")
    assert names("out") == []


@pytest.mark.parametrize(("end", "code", "last"), [
    ("sys.exit()", 0, ""),
    ("sys.exit(7)", 7, ""),
    ("sys.exit('no')", 1, "no"),
    ("raise ValueError('no')", 1, "ValueError: no"),
    ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
])  # fmt: skip
def test_its_end_calls_whoever_asked_and_waits_for_threads_and_keeps_the_code(end: str, code: int, last: str) -> None:
    script = f"""
import atexit, sys, tempfile, threading, time, weakref
from upscale_cli import __main__ as process
assert not weakref.finalize._registered_with_atexit, "would be called behind the end"
folder = []
def main():
    atexit.register(print, "asked")
    folder.append(tempfile.TemporaryDirectory())
    print(folder[0].name)
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    {end}
process.main = main
process.program()
"""
    found, text, errors = program(code=script)
    folder, *words = text.splitlines()
    assert (found, words) == (code, ["thread", "asked"])
    assert not Path(folder).exists()
    assert errors.strip().splitlines()[-1:] == ([last] if last else [])
