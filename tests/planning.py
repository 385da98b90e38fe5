"""What is decided before work starts, by the name of a picture, and a folder to decide on."""

from pathlib import Path

import pytest
from pictures import frame, write

from upscale_cli import jobs
from upscale_cli.jobs import Item
from upscale_cli.request import NetworkOptions, RunRequest

BICUBIC = NetworkOptions(model="bicubic")  # a formula: its networks are known without weights


def request(*words: Path | str, **settings: object) -> RunRequest:
    return RunRequest(inputs=tuple(map(str, words)), **{"network": BICUBIC, **settings})  # type: ignore[arg-type]


def plan(*words: Path | str, **settings: object) -> dict[str, Item]:
    """Items by the name of their input."""
    return {item.source.name: item for item in jobs.plan(request(*words, **settings)).items}


def target(item: Item) -> str:
    assert item.job, item.reason
    return item.job.target.name


@pytest.fixture(name="folder")
def photographs(tmp_path: Path) -> Path:
    """Two photographs, a folder below with a third."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    write(tmp_path / "in" / "a.jpg", frame())
    write(tmp_path / "in" / "b.png", frame())
    write(tmp_path / "in" / "sub" / "c.jpg", frame())
    return tmp_path / "in"
