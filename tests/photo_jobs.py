"""Jobs over real photographs, and what they leave: what the tests of the pipeline and its threads share."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource, probe
from upscale_cli.media.metadata import Metadata
from upscale_cli.pipeline import Job

PATIENCE_S = 20  # how long a thread may take to show up before a test says it never will


def job(source: Path, target: Path, scale: float = 2, format: str = "PNG") -> Job:
    info = probe(source)
    return Job(source, target, format, round(info.height * scale), round(info.width * scale))


def small_photos(photos: list[Path], folder: Path, count: int = 4) -> list[Path]:
    """Real photographs, cut to 160 x 120 so that the network's part stays cheap; PNG, so that they are exact."""
    folder.mkdir(exist_ok=True)
    made = []
    for path in photos[:count]:
        with Image.open(path) as image:
            image.crop((100, 100, 260, 220)).save(folder / f"{path.stem}.png")
        made.append(folder / f"{path.stem}.png")
    return made


@pytest.fixture(name="sources")
def photo_sources(photos: list[Path], tmp_path: Path) -> list[Path]:
    return small_photos(photos, tmp_path / "in")


@pytest.fixture(name="out")
def out_folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def pixels(path: Path) -> np.ndarray:
    with ImageSource(path) as source:
        return next(iter(source.frames())).color


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("upscale-")]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".png", ".tif", ".jpg"))


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def write_picture(path: Path, frames: list[Frame], format: str, metadata: Metadata | None = None) -> Path:
    with ImageSink(path, format=format, metadata=metadata or Metadata()) as sink:
        for frame in frames:
            sink.write(frame)
    return path
