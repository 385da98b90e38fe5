"""What measured numbers depend on: processor, threads, versions, commit. Measures nothing."""

import compileall
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from upscale_cli import device as devices

HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "pillow", "opencv-python")


def machine(device: torch.device, packages: Iterable[str] = PACKAGES) -> dict[str, object]:
    """What the numbers depend on; of the packages, the versions of those that are installed."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": devices.hardware("cpu"),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": {name: found for name in packages if (found := installed(name))},
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def as_installed() -> None:
    """Compile the package to bytecode, as pip does with all that it installs.

    From a source tree, where none is kept (PYTHONDONTWRITEBYTECODE), every process that is timed would do it again, in
    0.16 s.
    """
    compileall.compile_dir(HERE.parent / "upscale_cli", quiet=1)


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git(*words: str) -> str:
    found = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False)
    return found.stdout.strip()
