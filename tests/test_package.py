"""The wheel: what it must hold is in it, nothing else is, and it works alone."""

import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from upscale_cli import __version__
from upscale_cli.manifest import Bundled, load_manifest
from upscale_cli.weights.download import sha256_of

ROOT = Path(__file__).parents[1]
INFO = f"upscale_cli-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel laid out as an installer does it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_it_holds_the_package_and_nothing_else(installed: Path) -> None:
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    package = ROOT / "upscale_cli"
    modules = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    recipes = {path.relative_to(ROOT).as_posix() for path in (package / "train" / "recipes").glob("*.toml")}
    sources = [entry.source for entry in load_manifest().entries]
    weights = {f"upscale_cli/weights/bundled/{source.path}" for source in sources if isinstance(source, Bundled)}
    ranges = {path.relative_to(ROOT).as_posix() for path in (package / "weights" / "bundled").glob("*.int8.json")}
    others = {"py.typed", "weights_manifest.json", "weights/bundled/TRAINING_DATA.md", "metrics/published/NOTICE.md"}
    others |= {f"metrics/published/{name}.safetensors" for name in ("dists", "lpips", "niqe")}
    expected = {*modules, *recipes, *weights, *ranges, *(f"upscale_cli/{name}" for name in others)}
    expected |= {f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert len(recipes) > 3
    assert len(ranges) > 3
    assert found == expected


def test_the_bundled_weights_are_the_pinned_ones(installed: Path) -> None:
    manifest = installed / "upscale_cli" / "weights_manifest.json"
    assert manifest.read_bytes() == (ROOT / "weights_manifest.json").read_bytes()
    for entry in load_manifest(manifest).entries:
        if isinstance(entry.source, Bundled):
            path = installed / "upscale_cli" / "weights" / "bundled" / entry.source.path
            assert (path.stat().st_size, sha256_of(path)) == (entry.size, entry.sha256)


def test_its_metadata(installed: Path) -> None:
    metadata = Parser().parsestr((installed / INFO / "METADATA").read_text("utf-8"))
    assert (metadata["Name"], metadata["Version"]) == ("upscale-cli", __version__)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    requirements = metadata.get_all("Requires-Dist") or []
    assert all(">=" in requirement for requirement in requirements), "every dependency has a floor"
    assert "upscale = upscale_cli.__main__:program" in (installed / INFO / "entry_points.txt").read_text("utf-8")


def test_it_works_without_the_source_tree(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "upscale_cli", "models", "list", "--json"]
    found = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert list(json.loads(found.stdout)["models"]) == [entry.name for entry in load_manifest().entries]
