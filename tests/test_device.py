"""What the machine's memory is asked for, and given back."""

import platform
import subprocess
import sys

import pytest

_FREED = """
import sys
import numpy as np
from upscale_cli.device import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "asked":
    return_freed_memory()
for _ in range(3):
    np.ones(8 << 20, np.uint8)  # freed at once: from here on malloc would keep the like
before = resident()
large, small = [], []
for _ in range(40):
    large.append(np.ones(8 << 20, np.uint8))
    small.append(bytearray(50_000))
large.clear()
print(resident() - before >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the malloc of glibc is what is set")
def test_large_blocks_go_back_to_the_machine_though_small_ones_stay_between_them() -> None:
    kept = {
        how: int(subprocess.run([sys.executable, "-c", _FREED, how], capture_output=True, text=True, check=True).stdout)
        for how in ("asked", "not asked")
    }
    assert kept["not asked"] > 100  # of 320 MB; where this fails malloc has become wiser, and asking is needless
    assert kept["asked"] < 20


_ASKED_AGAIN = """
import resource, sys
from upscale_cli.device import keep_freed_memory

if sys.argv[1] == "asked":
    keep_freed_memory()
for _ in range(2):
    b"x" * (64 << 20)  # larger than malloc ever keeps by itself
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    b"x" * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the malloc of glibc is what is set")
def test_a_training_does_not_have_the_same_memory_filled_with_zeros_in_every_step() -> None:
    fresh = {
        how: int(
            subprocess.run([sys.executable, "-c", _ASKED_AGAIN, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("asked", "not asked")
    }
    assert fresh["not asked"] > 100  # pages: 65,536, or 128 where the machine gives large ones unasked
    assert fresh["asked"] < 20
