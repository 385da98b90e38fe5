"""Graphics cards (NVENC, Quick Sync, AMF): which are there, and which encode on this machine. Chooses no settings."""

import functools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

FAMILIES = ("nvenc", "qsv", "amf")
"""In the order in which they are tried."""
_VENDORS = {"nvenc": "0x10de", "qsv": "0x8086", "amf": "0x1002"}
_SIDE_PX = 256  # smaller ones are refused by some
LIBRARY_ERRORS = (FFmpegError, OSError, ValueError)


Options = tuple[tuple[str, str], ...]


def best(codec: str, pix_fmt: str, told: Callable[[str], Options]) -> tuple[str | None, tuple[str, ...]]:
    """The first that works here for `h264`, `hevc` or `av1`, or None; and a line for each that should and does not.

    `told(encoder)` is what it is told in earnest.
    """
    trouble: list[str] = []
    for family in filter(present, FAMILIES):
        encoder = f"{codec}_{family}"
        why = fault(encoder, pix_fmt, told(encoder))
        if not why:
            return encoder, ()
        trouble.append(f"{encoder} does not work here ({why}): encoded by the processor")
    return None, tuple(trouble)


def present(family: str) -> bool:
    """Whether there is such a card, as far as the system tells; where it does not, it is worth a try."""
    cards = Path("/sys/class/drm")
    if family == "nvenc" and Path("/dev/nvidiactl").exists():
        return True
    if not sys.platform.startswith("linux"):
        return sys.platform == "win32"
    return any(file.read_text("ascii").strip() == _VENDORS[family] for file in cards.glob("renderD*/device/vendor"))


@functools.cache
def fault(encoder: str, pix_fmt: str, options: Options) -> str:
    """Why it does not work here, found by encoding one small frame; empty where it does. Asked once a process."""
    return heard(lambda: _encode_one(encoder, pix_fmt, options), LIBRARY_ERRORS)


def heard(attempt: Callable[[], None], errors: tuple[type[Exception], ...]) -> str:
    """Why an attempt fails, in the words of FFmpeg where it says more than the error; empty where it does not."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as told:
            try:
                attempt()
            except errors as error:
                said = next((text for _, _, text in told), "") or getattr(error, "strerror", None) or str(error)
                return said.strip().rstrip(".")
    finally:
        av.logging.set_level(before)
    return ""


def _encode_one(encoder: str, pix_fmt: str, options: Options) -> None:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width = context.height = _SIDE_PX
    context.pix_fmt, context.time_base, context.framerate = pix_fmt, Fraction(1, 25), Fraction(25)
    context.options = dict(options)
    frame = VideoFrame.from_ndarray(np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8), format="rgb24")
    frame = frame.reformat(format=pix_fmt)
    frame.pts, frame.time_base = 0, context.time_base
    if not [*context.encode(frame), *context.encode(None)]:
        raise ValueError("it makes no packet of a frame")
    if context.options:
        raise ValueError(f"it has no option {next(iter(context.options))}")
