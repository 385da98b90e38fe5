"""Pictures through pipes: what goes in by `-` comes out as it would from a file, and nothing else with it."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "upscale_cli")


def upscale(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run((*COMMAND, *words, "-m", "bicubic"), input=given, capture_output=True, check=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph and, beside it, what comes of it from file to file."""
    source = Path(__file__).parents[1] / "benchmarks" / "photos" / "spices.jpg"
    path = tmp_path_factory.mktemp("pipe") / "photo.jpg"
    path.write_bytes(source.read_bytes())
    assert upscale(str(path), "-o", str(path.with_name("file"))).returncode == 0
    return path


def test_from_pipe_to_pipe(photo: Path) -> None:
    done = upscale("-", "-o", "-", given=photo.read_bytes())
    assert done.returncode == 0
    assert done.stdout == (photo.parent / "file" / "photo_x2.jpg").read_bytes(), "the picture and no word with it"
    assert b"1 made" in done.stderr


def test_from_file_to_pipe(photo: Path) -> None:
    assert upscale(str(photo), "-o", "-").stdout == (photo.parent / "file" / "photo_x2.jpg").read_bytes()


def test_from_pipe_to_folder(photo: Path, tmp_path: Path) -> None:
    done = upscale("-", "-o", str(tmp_path), given=photo.read_bytes())
    assert done.returncode == 0
    assert (tmp_path / "stdin_x2.jpg").read_bytes() == (photo.parent / "file" / "photo_x2.jpg").read_bytes()


def test_a_broken_picture_gives_nothing_and_says_why(photo: Path) -> None:
    done = upscale("-", "-o", "-", given=photo.read_bytes()[:20_000])
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"truncated" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [(("-",), b"Say with -o where it goes"), (("a.jpg", "b.jpg", "-o", "-"), b"Standard output takes one picture")],
)
def test_what_cannot_be_meant(words: tuple[str, ...], message: bytes) -> None:
    done = upscale(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr


def test_a_closed_pipe_is_no_traceback(photo: Path) -> None:
    command = f"{sys.executable} -m upscale_cli {photo} -o - -m bicubic -s 4 -f png"
    line = f"{command} | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(("bash", "-c", line), capture_output=True, check=False)
    assert done.stdout.strip() == b"141"
    assert b"Traceback" not in done.stderr
