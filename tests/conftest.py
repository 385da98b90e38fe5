"""What every test gets: no network beyond this machine, a cache of its own; and where the pictures are."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

# Before torch is imported, here and in the programs that tests start: on pictures of a few pixels two threads wait for
# each other longer than they compute (measured on two busy cores: a fifth of the time with one).
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's cache nor the user's settings reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        patch.setenv("UPSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("UPSCALE_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """A script starts what runs in its background deaf to Ctrl-C, which the programs of the tests would inherit."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def this_machine_only() -> Iterator[None]:
    """A connection to anywhere but the loopback fails the test, whatever the code under test does with errors."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test opened a connection to {address}")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The eight demo photographs, in the order of their names."""
    return sorted((ROOT / "benchmarks" / "photos").glob("*.jpg"))


@pytest.fixture(scope="session")
def spices() -> npt.NDArray[np.uint8]:
    """A photograph full of detail as 427 x 640 x 3 8-bit RGB."""
    with Image.open(ROOT / "benchmarks" / "photos" / "spices.jpg") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def set5() -> Path:
    """The five pictures of Set5, which may not be copied here."""
    return _shared("data/benchmarks/Set5")


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Published weights and what they gave elsewhere."""
    return _shared("data/oracles")


@pytest.fixture(scope="session")
def fivek() -> Path:
    """Six photographs and what an expert made of them, for research only."""
    return _shared("data/fivek/pairs")


def _shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not on this machine; its licence lets nobody ship it")
    return SHARED / name
