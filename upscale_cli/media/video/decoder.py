"""Decoders in graphics cards: which of them gives of this very film what the processor gives, and frames by it.

A card's frames come out in the processor's pixel format, value for value, with their times and tags: who decodes is
part of no film. What a card does not give so, the processor decodes.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, HWDeviceType, hwdevices_available
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale_cli.errors import InputError
from upscale_cli.media.paths import shown
from upscale_cli.media.video import hardware
from upscale_cli.media.video.container import VideoInfo, opened
from upscale_cli.media.video.hardware import LIBRARY_ERRORS

_DOWNLOADED = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
"""Pixel formats of the processor, and what holds the same values as frames leave a card."""
_FAMILIES = {"cuda": "nvenc", "qsv": "qsv", "amf": "amf", "d3d11va": "", "videotoolbox": ""}
"""What `auto` tries, and whose card it takes; the others are the system's own."""
_TRIED = 4  # frames that are compared: the first stands alone, the next are predicted


class CardError(Exception):
    """The card does not decode this."""


class Card:
    """A decoder in a graphics card, for films of one pixel format."""

    def __init__(self, name: str, pixels: str) -> None:
        """`name` as FFmpeg calls the way to it, such as `cuda`; `pixels` the format that the processor gives."""
        self.name = name
        self._pixels = pixels

    @contextmanager
    def opened(self, path: Path) -> Iterator[InputContainer]:
        """The container, whose streams it decodes. Raises CardError, also of what goes wrong in the block."""
        try:
            with opened(path, HWAccel(self.name, allow_software_fallback=False)) as container:
                yield container
        except (*LIBRARY_ERRORS, RuntimeError) as error:
            raise CardError(_words(error)) from error

    def decode(self, stream: VideoStream, packet: Packet | None) -> list[VideoFrame]:
        """As `stream.decode`; raises CardError for all that is not as it should be."""
        try:
            return [self._as_software(frame) for frame in stream.decode(packet)]
        except LIBRARY_ERRORS as error:
            raise CardError(_words(error)) from error

    def _as_software(self, frame: VideoFrame) -> VideoFrame:
        if frame.is_corrupt:
            raise CardError("a frame of it is damaged")  # which everybody paints over otherwise
        if frame.format.name != _DOWNLOADED[self._pixels]:
            raise CardError(f"its frames are {frame.format.name}")
        return frame.reformat(format=self._pixels)


def chosen(info: VideoInfo, wanted: str) -> tuple[Card | None, tuple[str, ...]]:
    """Who decodes the film, None for the processor, with a line for what was asked for and cannot be.

    `auto` takes a card that is there and decodes the first frames as the processor does. InputError where the one that
    was asked for does not.
    """
    if wanted == "none":
        return None, ()
    fit = info.pixels.name in _DOWNLOADED and info.width % 2 == info.height % 2 == 0
    if not fit:
        line = f"{info.pixels.name} of {info.width} x {info.height} is nothing for cards: decoded by the processor"
        return None, () if wanted == "auto" else (line,)
    names = [name for name in _FAMILIES if _present(name)] if wanted == "auto" else [wanted]
    for name in names:
        card = Card(name, info.pixels.name)
        why = fault(card, info)
        if not why:
            return card, ()
        if wanted != "auto":
            raise InputError(
                f"{shown(info.path)}: --hwaccel {wanted} does not decode it here: {why}. "
                "Leave it out, and the processor does where no card can."
            )
    return None, ()


def _present(name: str) -> bool:
    """Whether there is such a card, and FFmpeg was built for it."""
    system = {"d3d11va": "win32", "videotoolbox": "darwin"}.get(name, sys.platform)
    family = _FAMILIES[name]
    return name in hwdevices_available() and system == sys.platform and (not family or hardware.present(family))


def fault(card: Card, info: VideoInfo) -> str:
    """Why the card is not to decode this film; empty where its first frames are those of the processor."""

    def attempt() -> None:
        with opened(info.path) as container:
            stream = _film(container, info)
            if card.name not in _ways(stream.codec_context.codec):
                raise CardError(f"FFmpeg has no way to decode {stream.codec_context.codec.name} by it")
            expected = list(islice(container.decode(stream), _TRIED))
        with card.opened(info.path) as container:
            stream = _film(container, info)
            made = (frame for packet in container.demux(stream) for frame in card.decode(stream, packet))
            if not _same(expected, list(islice(made, _TRIED))):
                raise CardError("its frames are not those of the processor")

    return hardware.heard(attempt, (CardError, InputError, *LIBRARY_ERRORS))


def _ways(codec: Codec) -> set[str]:
    """To which devices FFmpeg can give the work."""
    return {HWDeviceType(each.device_type).name for each in codec.hardware_configs if each.is_supported}


def _film(container: InputContainer, info: VideoInfo) -> VideoStream:
    stream = container.streams[info.stream]
    assert isinstance(stream, VideoStream)
    return stream


def _same(first: Sequence[VideoFrame], second: Sequence[VideoFrame]) -> bool:
    return len(first) == len(second) and all(
        _facts(one) == _facts(other)
        and all(np.array_equal(*planes) for planes in zip(_planes(one), _planes(other), strict=True))
        for one, other in zip(first, second, strict=True)
    )


def _facts(frame: VideoFrame) -> tuple[object, ...]:
    """What becomes of a frame beside its pixels."""
    color = frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range
    size = frame.width, frame.height, frame.format.name
    return *size, *color, frame.pts, frame.time_base, frame.duration, frame.interlaced_frame, frame.rotation


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    """The rows of every plane, without what fills them up."""
    each = -(-max(part.bits for part in frame.format.components) // 8)
    return [
        np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * each]
        for plane in frame.planes
    ]


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
