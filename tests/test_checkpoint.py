"""Checkpoints: refused where they do not fit, whole when the disk is full, and weights files too."""

import contextlib
import dataclasses
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, assert_same, trainer

from upscale_cli.errors import OutputError, UsageError
from upscale_cli.train.checkpoint import Checkpoint
from upscale_cli.weights.loading import load_module


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer(TINY).checkpoint().save(path)
    assert Checkpoint.load(path, TINY).step == 0
    with pytest.raises(UsageError, match=r"other settings \(batch: 4 -> 8, variant: lightweight/x2-tiny -> edsr/x2\)"):
        Checkpoint.load(path, dataclasses.replace(TINY, batch=8, variant="edsr/x2"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="no usable checkpoint"):
        Checkpoint.load(path, TINY)


def test_a_checkpoint_of_an_earlier_version_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"step": 3, "config": {}, "model": {}, "best_psnr": 30.0}, tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="an earlier version of upscale wrote it"):
        Checkpoint.load(tmp_path / "checkpoint.pt", TINY)


def test_a_setting_that_a_checkpoint_does_not_know_had_its_default(tmp_path: Path) -> None:
    saved = trainer(TINY).checkpoint()
    del saved.config["stop_after"]
    saved.save(tmp_path / "checkpoint.pt")
    assert Checkpoint.load(tmp_path / "checkpoint.pt", TINY).step == 0
    with pytest.raises(UsageError, match="stop_after: 0 -> 3"):
        Checkpoint.load(tmp_path / "checkpoint.pt", dataclasses.replace(TINY, stop_after=3))


def test_a_checkpoint_is_a_weights_file_too(tmp_path: Path) -> None:
    own = trainer(TINY)
    own.checkpoint().save(tmp_path / "checkpoint.pt")
    _, variant, module = load_module(tmp_path / "checkpoint.pt", None)
    assert variant.name == TINY.variant
    assert_same(dict(module.state_dict()), own.average)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB, as on a disk that is full. For moments: pytest may be writing to a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer(TINY).checkpoint().save(tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_a_full_disk_loses_no_checkpoint(saved: Path) -> None:
    before = saved.read_bytes()
    later = trainer(TINY)
    later.step = 7
    complaint = r"of step 7 cannot be written: File too large. The one before it is whole"
    with pytest.raises(OutputError, match=complaint), full_disk():
        later.checkpoint().save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["checkpoint.pt"]
