"""Compiled networks that are kept beside their graph, so that the next process need not compile them.

Owns which are worth it (the one a process starts with, and those that took long), their names, and that they do not
pile up. Real-ESRGAN's 350 convolutions compile in 0.55 s in bf16 and 2 s in 8 bits, and are read back in 0.2 and 0.4 s.
What cannot be read is compiled anew.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from upscale_cli.engines.graph import library

SLOW_SECONDS = 1.0
KEPT = 4
"""Of one graph: shapes of tiles, ranges."""


def kept(
    folder: Path, key: str, core: Any, settings: Mapping[str, str], compile_network: Callable[[], Any], *, first: bool
) -> Any:
    """The `openvino.CompiledModel` that `folder` holds, else a fresh one, which is kept there if it took long.

    `key` says all it depends on beside the graph in `folder`, what that depends on, the settings and the processor.
    With `first` it is kept however long it took: the next process starts with it. Its requests are good as long as
    itself.
    """
    able = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    digest = hashlib.sha256(f"{key} {sorted(settings.items())} {able}".encode()).hexdigest()
    blob = folder / f"{digest[:32]}.blob"
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # there is none, or it is damaged
        return _read(blob, core, settings)
    began = time.monotonic()
    network = compile_network()
    if first or time.monotonic() - began >= SLOW_SECONDS:
        with contextlib.suppress(OSError):
            _keep(network, blob)
    return network


def _read(blob: Path, core: Any, settings: Mapping[str, str]) -> Any:
    values = np.memmap(blob, np.uint8, "c")  # read where they lie; the library takes no read-only memory,
    network = core.import_model(library().Tensor(values, shared_memory=True), "CPU", dict(settings))
    network.values = values  # nor does it hold what it goes on reading
    os.utime(blob)
    return network


def _keep(network: Any, blob: Path) -> None:
    """Under its name only whole; the longest unused make room."""
    with tempfile.NamedTemporaryFile(dir=blob.parent, suffix=".part", delete=False) as part:
        try:
            part.write(network.export_model().getbuffer())
            part.close()
            Path(part.name).replace(blob)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    for old in sorted(blob.parent.glob("*.blob"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
