"""The shape of the house: who may import whom, what answers without torch, how a file opens."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import photo
from PIL import Image

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "upscale_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
WITHOUT_TORCH = ("cli", "render", "manifest", "media", "errors", "run", "journal", "__init__")
NO_ROOMS = {"utils", "common", "helpers", "core", "manager"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_imports_point_down_only() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    found = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_command_line_is_there_without_torch() -> None:
    """`--help` and `models list` must answer at once, and torch takes a second to import."""
    names = [
        dotted(path) for path in MODULES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in WITHOUT_TORCH
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} imports torch'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_file_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    docstring = ast.get_docstring(tree)
    assert docstring, "no module docstring"
    first = docstring.splitlines()[0]
    assert len(first) <= 120
    assert path.stem not in NO_ROOMS


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.avif"])
def test_no_more_of_pillow_is_loaded_than_is_read(tmp_path: Path, name: str) -> None:
    """Its forty formats are a fortieth of what a run takes to start."""
    Image.fromarray(photo(30, 40)).save(tmp_path / name)
    script = (
        "import sys; from pathlib import Path; from upscale_cli.media.image import probe\n"
        "print(probe(Path(sys.argv[1])).width, 'PIL.DdsImagePlugin' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["40", "False"]
