"""Compiled networks that are kept beside their graph, so that the next process need not compile them.

Owns which are worth it (those that took long: 350 convolutions in 8 bits 2 s, read back 0.4 s; most compile as fast as
they are read), their names, and that they do not pile up. What cannot be read is compiled anew.
"""

import contextlib
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SLOW_SECONDS = 1.0
KEPT = 4
"""Of one graph: shapes of tiles, ranges."""


def kept(folder: Path, key: str, core: Any, settings: Mapping[str, str], compile_network: Callable[[], Any]) -> Any:
    """The `openvino.CompiledModel` that `folder` holds, else a fresh one, which is kept there if it took long.

    `key` says all that it depends on beside the graph in `folder`, the settings, the processor and this code.
    """
    able = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    digest = hashlib.sha256(f"{key} {sorted(settings.items())} {able} {_code()}".encode()).hexdigest()
    blob = folder / f"{digest[:32]}.blob"
    with contextlib.suppress(OSError, RuntimeError):  # there is none, or it is damaged
        network = core.import_model(blob.read_bytes(), "CPU", dict(settings))
        os.utime(blob)
        return network
    began = time.monotonic()
    network = compile_network()
    if time.monotonic() - began >= SLOW_SECONDS:
        with contextlib.suppress(OSError):
            _keep(network, blob)
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


@functools.cache
def _code() -> str:
    """What turns a graph into what is compiled."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()
