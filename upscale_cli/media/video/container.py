"""A container opened for reading: which of its streams is the film, what that promises, and its faults in words."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.logging
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale_cli.errors import InputError
from upscale_cli.media.guard import Guard
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.image import probe as probe_image
from upscale_cli.media.paths import shown
from upscale_cli.media.video.color import Color, PixelFormat, hdr10, known
from upscale_cli.media.video.options import VideoOptions

av.logging.set_level(None)  # what goes wrong is said once, in our words, and not through the progress bar

_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,dv,wtv,rm,yuv4mpegpipe,m4v,h264,hevc,obu,mpegvideo"
"""What is opened, by content: no playlist, which would name other files, and no still picture."""
_NAMES = {"mov": "MOV", "mp4": "MP4", "matroska": "MATROSKA", "webm": "WEBM"}
_SECONDS = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
INTERLACED = (2, 3, 4, 5)  # AVFieldOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo(ImageInfo):
    """What the headers and the first frame say. `frames` is an estimate where the container does not count."""

    stream: int
    time_base: Fraction
    rate: Fraction
    """Frames a second, on average."""
    seconds: float
    """How long it is; 0 where the container does not say."""
    pixels: PixelFormat
    color: Color
    sample_aspect: Fraction
    """Of the upright picture."""
    start: int
    """When it begins, in its time base."""
    turn: int
    """Quarter turns, counterclockwise, that make its frames upright."""
    interlaced: bool
    hdr10: tuple[str, ...]
    """What is said of the screen it was made for, as x265 takes it."""
    first: int | None = None
    """The lowest number, where it is numbered pictures and no container."""
    others: tuple[str, ...] = ()
    """What kinds of streams there are beside the film."""

    @property
    def counted(self) -> bool:
        return False

    def frames_of(self, options: VideoOptions) -> int:
        """How many of its frames are made, an estimate."""
        found = options.window(self.seconds)
        if found is None or not self.seconds:
            return self.frames
        start, end = found
        return max(1, round((min(end, self.seconds) - start) * self.rate))

    def window(self, options: VideoOptions) -> tuple[Fraction, Fraction | None] | None:
        """From when to when it is made, in seconds as its frames count them; None is all of it."""
        found = options.window(self.seconds)
        if found is None:
            return None
        begin = self.start * self.time_base
        start, end = found
        return begin + _exact(start), None if math.isinf(end) else begin + _exact(end)


def probe(path: Path, *, max_pixels: int) -> VideoInfo:
    """What the video is. Raises InputError for a file without one, or whose first frame cannot be decoded."""
    with opened(path) as container:
        stream = film(container, path)
        if not stream.codec_context:
            raise InputError(f"{shown(path)}: its codec is not known. Convert it with another program first.")
        try:
            frame = next(container.decode(stream), None)
        except (FFmpegError, OSError) as error:
            raise InputError(f"{shown(path)}: its first frame cannot be decoded ({_words(error)}).") from error
        if frame is None:
            raise InputError(f"{shown(path)}: holds no frame. The file is empty or damaged.")
        Guard(path, max_pixels=max_pixels).check_pixels(frame.width, frame.height)
        return _info(path, container, stream, frame)


@contextmanager
def opened(path: Path, card: HWAccel | None = None) -> Iterator[InputContainer]:
    """The container. Raises InputError for what is none; with a card to decode it what av does, which knows why."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", container_options=options, hwaccel=card)
    except (FFmpegError, OSError) as error:
        if card:
            raise
        raise InputError(f"{shown(path)}: {_why(path, error)}") from error
    with container:
        yield container


def film(container: InputContainer, path: Path) -> VideoStream:
    """The stream that is enlarged: no cover picture. Raises InputError where there is none."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        kinds = ", ".join(dict.fromkeys(stream.type for stream in container.streams)) or "nothing"
        raise InputError(f"{shown(path)}: holds no video stream, only {kinds}.")
    best = container.streams.best("video")
    return next((stream for stream in films if stream is best), films[0])


def alpha_tags(stream: Stream) -> list[str]:
    """The tags that promise transparency beside the frames, as VP8 and VP9 have it; decoders leave it there."""
    return [key for key, value in stream.metadata.items() if key.lower() == "alpha_mode" and value != "0"]


def _info(path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoInfo:
    pixels = PixelFormat.of(frame.format.name)
    color = Color(frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    if not pixels.rgb and not known(color.matrix):
        raise InputError(f"{shown(path)}: its colour matrix ({color.matrix}) is not supported. Convert it first.")
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    seconds = _seconds(container, stream)
    turn = round((frame.rotation or 0) / 90) % 4
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    format = container.format.name.split(",")[0]
    if format == "mov" and container.metadata.get("major_brand", "qt").strip() != "qt":
        format = "mp4"
    if format == "matroska" and path.suffix.lower() == ".webm":
        format = "webm"
    return VideoInfo(
        path=path,
        format=_NAMES.get(format, format.upper()),
        width=frame.height if turn % 2 else frame.width,
        height=frame.width if turn % 2 else frame.height,
        frames=max(1, stream.frames or round(seconds * rate)),
        depth=16 if pixels.bits > 8 else 8,
        channels=3,
        alpha=False,
        animated=True,
        notes=("transparency dropped: frames are written opaque",) if pixels.alpha or alpha_tags(stream) else (),
        stream=stream.index,
        time_base=stream.time_base or 1 / rate,
        rate=rate,
        seconds=seconds,
        pixels=pixels,
        color=color,
        sample_aspect=1 / aspect if turn % 2 else aspect,
        start=stream.start_time or 0,
        turn=turn,
        hdr10=hdr10(_side_data(frame)),
        interlaced=frame.interlaced_frame or stream.codec_context.field_order in INTERLACED,
        others=tuple(dict.fromkeys(other.type for other in container.streams if other is not stream)),
    )


def _side_data(frame: VideoFrame) -> dict[str, bytes]:
    found = frame.side_data
    wanted = (SideDataType.MASTERING_DISPLAY_METADATA, SideDataType.CONTENT_LIGHT_LEVEL)
    # Its stubs know names only, its code types only.
    return {kind.name: bytes(data) for kind in wanted if (data := found.get(kind)) is not None}  # type: ignore


def _seconds(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if found := _SECONDS.match(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = found.groups()
        start = (stream.start_time or 0) * (stream.time_base or 0)  # the tag says when it ends, not how long it is
        return float(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start)
    return (container.duration or 0) / av.time_base


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, InvalidDataError):
        return f"cannot be read: {error.strerror.lower()}."
    if path.stat().st_size == 0:
        return "is empty (0 bytes)."
    if "moov" not in (boxes := _boxes(path)) and boxes[:1] == ["ftyp"]:
        return "its index (moov) is missing: the recording or the download broke off. Get the whole file."
    with suppress(InputError):
        return f"is a still picture ({probe_image(path).format}) with the name of a video. Rename it."
    return "is not a video of a known kind, or is damaged."


def _boxes(path: Path) -> list[str]:
    """The outermost boxes of an MP4 file (ISO/IEC 14496-12 section 4.2), as far as they can be followed."""
    found: list[str] = []
    with path.open("rb") as file:
        while len(found) < 1000 and len(head := file.read(8)) == 8:
            length, name = int.from_bytes(head[:4], "big"), head[4:].decode("latin-1")
            found.append(name)
            skip = int.from_bytes(file.read(8), "big") - 16 if length == 1 else length - 8
            if skip < 0:
                break
            file.seek(skip, 1)
    return found


def _exact(seconds: float) -> Fraction:
    """What was meant: 0.8 is 4/5."""
    return Fraction(seconds).limit_denominator(1_000_000)


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
