"""Where a network runs and in which number format. Imports torch only when asked something."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from upscale_cli.errors import UsageError

if TYPE_CHECKING:
    import torch


# Words of a RuntimeError that has no other mark: of torch's allocator on CPUs, of CUDA where torch did not allocate
# (pinned memory, graphs), and of its libraries.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_LARGE_BLOCK = 4 << 20  # a plane of a film of 2 megapixels is one; below, asking the machine costs more than it saves


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One usable device, for `upscale devices`."""

    name: str
    description: str
    precision: str
    """What `--precision auto` uses there."""
    memory_bytes: int


def is_cpu(name: str = "auto") -> bool:
    """Whether `pick` would give the CPU. Asks torch only where there may be anything else."""
    return name == "cpu" or (name == "auto" and not _may_have_accelerator()) or pick(name).type == "cpu"


def _may_have_accelerator() -> bool:
    """False where neither the machine nor the installed torch can have one."""
    if version("torch").endswith("+cpu"):
        return False
    if sys.platform == "linux":
        return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))  # NVIDIA's, WSL's, AMD's
    return True


def pick(name: str = "auto") -> torch.device:
    """`auto` (CUDA, else Apple's MPS, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`; UsageError if it is not there."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}. Choose auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} CUDA device{'s' * (count != 1)}" if count else "no CUDA device"
            raise UsageError(f"Device {name!r} is not there: this machine has {found}. Use --device auto or cpu.")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("Device 'mps' is not there: it needs a Mac with Apple silicon. Use --device auto or cpu.")
    elif device.type not in ("cpu", "mps"):
        raise UsageError(f"Device {name!r} is not supported. Choose auto, cpu, cuda, cuda:N or mps.")
    return device


def several(names: str) -> tuple[str, ...]:
    """The devices of a list such as `cuda:0,cuda:1` or `cuda:all`; UsageError if one of several is not there.

    One alone is taken at its word: whoever opens a network there looks.
    """
    words = [word.strip() for word in names.split(",")]
    if len(words) == 1 and words != ["cuda:all"]:
        return (names,)
    return tuple(name for word in words for name in _listed(word))


def _listed(word: str) -> list[str]:
    if word == "cpu":  # needs no torch to be known
        return [word]
    if word != "cuda:all":
        return [str(pick(word))]
    import torch

    pick("cuda")
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def fastest_precision(device: torch.device) -> str:
    """fp16 on CUDA and MPS; bf16 on a CPU that multiplies in it (measured 2-4 x fp32); else fp32."""
    import torch

    if device.type in ("cuda", "mps"):
        return "fp16"
    # Private, and not in every version of torch: where nobody can be asked, fp32 is right.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16" if any(probe() for probe in probes if probe) else "fp32"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is the device's or the machine's word for no memory."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _NO_MEMORY)


def is_lost(device: torch.device) -> bool:
    """Whether the device fails at the least one can ask of it, as after some errors it does for good."""
    import torch

    if device.type == "cpu":
        return False
    try:
        torch.zeros(1, device=device).cpu()
    except RuntimeError as error:
        return not is_out_of_memory(error)
    return False


def available_bytes(device: torch.device) -> int:
    """Memory that is free on the device now."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory_bytes()


def free_memory_bytes() -> int:
    """Memory this process can still take: the machine's, or its control group's where that is less."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        free = pages * os.sysconf("SC_PAGE_SIZE") // 2 if pages > 0 else 4 << 30
    return min(free, _control_group_free())


def _control_group_free() -> int:
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:  # noqa: PTH123
            most = int(limit.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:  # noqa: PTH123
            return max(0, most - int(used.read()))
    except (OSError, ValueError):  # no control group, or "max"
        return 1 << 62


def return_freed_memory() -> None:
    """Have large blocks go back to the machine once they are freed, from now on, where this is Linux with glibc.

    Its malloc else learns from the first large block freed to keep the next ones, up to 32 MB, for itself:
    frames then lie between what an encoder that is gone has left, and the longer a film, the more of it stays.
    """
    _set_malloc(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def keep_freed_memory() -> None:
    """Have large blocks stay with this process once they are freed, from now on, where this is Linux with glibc.

    A training frees and asks for the same blocks in every step; each one fresh from the machine is first filled
    with zeros, page by page, which took a quarter of the step of an EDSR on two cores.
    """
    _set_malloc(_M_MMAP_MAX, 0)
    _set_malloc(_M_TRIM_THRESHOLD, -1)


def _set_malloc(parameter: int, value: int) -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(parameter, value)


def list_devices() -> tuple[DeviceInfo, ...]:
    """Every device `--device` accepts on this machine, best first."""
    import torch

    found: list[DeviceInfo] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.device("cuda", index)
            memory = torch.cuda.get_device_properties(device).total_memory
            found.append(DeviceInfo(str(device), torch.cuda.get_device_name(device), fastest_precision(device), memory))
    if torch.backends.mps.is_available():
        device = torch.device("mps")
        found.append(DeviceInfo("mps", "Apple GPU", fastest_precision(device), free_memory_bytes()))
    device = torch.device("cpu")
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    found.append(DeviceInfo("cpu", threads, fastest_precision(device), free_memory_bytes()))
    return tuple(found)


def hardware(device: str) -> str:
    """What a device is called by its maker: `NVIDIA H200`, `AMD EPYC`. Asks torch for CUDA only."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    if device == "mps":
        return "Apple GPU"
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def has_avx512() -> bool:
    """Whether the processor computes with AVX-512; False where the system keeps no list of what it can."""
    return "avx512f" in _cpuinfo("flags").split()


def _cpuinfo(field: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return next((line.partition(":")[2].strip() for line in file if line.startswith(field)), "")
    except OSError:
        return ""


def threads() -> int:
    """Threads that a CPU engine takes for itself: a core each, or fewer where OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")  # as every library that computes takes it
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores


def restart_peak_memory() -> int | None:
    """Forget how much memory this process once held; what it holds now, or None where the system keeps no such note."""
    try:
        # What is free and was not given back would hide what is taken next.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):  # not Linux, or not glibc
        return None
    return _own_memory("VmRSS")


def peak_memory_bytes() -> int | None:
    """The most memory this process has held since `restart_peak_memory`."""
    return _own_memory("VmHWM")


def _own_memory(field: str) -> int | None:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields[field].split()[0]) * 1024 if field in fields else None
