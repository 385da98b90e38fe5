"""Encoders: which one a wish comes to, what it is told, and whether the container can hold it. Owns the defaults."""

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from upscale_cli.device import has_avx512
from upscale_cli.errors import InputError, UsageError
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video import hardware
from upscale_cli.media.video.color import Color, PixelFormat, written
from upscale_cli.media.video.container import VideoInfo
from upscale_cli.media.video.options import VideoOptions

_PLAIN = re.compile(r"yuv4\d\dp(\d+le)?")
_X265_WIDTH = 64  # narrower pictures make x265 4.2 end the whole process
_CARD_PX = 256  # sides below are beyond some cards
_MUXERS = {"MP4": "mp4", "MOV": "mov", "MATROSKA": "matroska", "WEBM": "webm"}


@dataclass(frozen=True, slots=True)
class _Codec:
    encoder: str
    crf: float | None
    """What looks lossless; None where quality is no number."""
    preset: str | None
    options: Mapping[str, str]
    formats: re.Pattern[str] = _PLAIN
    shown: bool = True
    """For players, of which few show more of a film than 10 bits and a value of chroma for four pixels."""
    crf_as: str = "crf"
    """What the encoder calls it."""


_CODECS = {
    "h264": _Codec("libx264", 17, "fast", {}),  # of medium, but for a fifth of its time
    "hevc": _Codec("libx265", 18, "medium", {"x265-params": "log-level=error"}),
    "av1": _Codec("libsvtav1", 20, "6", {}),
    "ffv1": _Codec(
        "ffv1",
        None,
        None,
        {"level": "3", "slicecrc": "1"},
        re.compile(r"yuv4\d\dp(\d+le)?|bgr0|gbrp\d+le"),
        shown=False,
    ),
    "prores": _Codec("prores_ks", None, None, {}, shown=False),
}
_CARDS = {  # what answers crf best in each family: a quality to hold, without a bit rate
    "nvenc": ("p5", {"rc": "vbr", "b": "0"}, "cq"),
    "qsv": ("slow", {}, "global_quality"),
    "amf": (None, {"rc": "qvbr", "quality": "quality"}, "qvbr_quality_level"),
}
_DEEP, _FLAT = "p010le", "nv12"
_CODECS |= {
    name: _Codec(
        name, _CODECS[codec].crf, preset, options, re.compile(_FLAT if codec == "h264" else f"{_FLAT}|{_DEEP}"),
        crf_as=crf,
    )
    for codec in ("h264", "hevc", "av1")
    for family, (preset, options, crf) in _CARDS.items()
    if (name := f"{codec}_{family}")
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoding:
    """Everything that decides the packets, besides the frames."""

    encoder: str
    width: int
    """As encoded: a column and a row more than asked for where the pixel format takes even sides only."""
    height: int
    pixels: PixelFormat
    color: Color
    options: tuple[tuple[str, str], ...]
    muxer: str
    info: VideoInfo
    notes: tuple[str, ...]


def choose(info: VideoInfo, job: Job, asked: PictureOptions) -> Encoding:
    """What this video becomes in the file of the job.

    Raises InputError for a container that cannot hold it, UsageError for a wish that the encoder has not.
    """
    options, depth, height, width = asked.video, asked.depth, job.height, job.width
    name, trouble = _picked(info, job, asked)
    kind = name.partition("_")[0]
    if name == "hevc" and width < _X265_WIDTH:
        raise InputError(f"becomes {width} pixels wide, and hevc takes {_X265_WIDTH} or more. Choose another --codec.")
    codec = _CODECS[name]
    pixels = _pixel_format(codec, info, options, depth)
    if info.color.hdr and pixels.bits < 10:
        raise InputError(
            f"is {info.color.hdr} (HDR), which {pixels.name} has too few bits for. "
            "Choose a --pix-fmt of 10 bits such as yuv420p10le, and leave out --depth 8."
        )
    even = [side + -side % step for side, step in ((height, pixels.down), (width, pixels.across))]
    notes = [*trouble]
    if even != [height, width]:
        notes.append(f"{width} x {height} became {even[1]} x {even[0]}, edge repeated: {pixels.name} needs even sides")
    color = written(info.color, info.pixels, pixels, ((info.height, info.width), (height, width)))
    notes += _losses(info, pixels)
    if info.alpha:
        notes.append("transparency dropped: frames are written opaque")
    if info.hdr10 and name != "hevc":
        notes.append("HDR10 metadata (screen and light) dropped: only --codec hevc writes it")
    if info.sample_aspect != 1 and kind not in ("h264", "hevc") and job.format in ("MATROSKA", "WEBM"):
        # PyAV hands it to the codec and to MP4, but not to Matroska's own field.
        aspect = f"{info.sample_aspect.numerator}:{info.sample_aspect.denominator}"
        notes.append(
            f"pixel aspect {aspect} dropped: {name} has no place for it here. Choose mp4 or mov, or --codec hevc"
        )
    encoding = Encoding(
        codec.encoder, even[1], even[0], pixels, color, _told(name, codec, options, pixels, info.hdr10),
        _MUXERS[job.format], info, tuple(notes),
    )  # fmt: skip
    with av.open(io.BytesIO(), "w", format=encoding.muxer) as container:
        add_to(container, encoding, name)
    return encoding


def _picked(info: VideoInfo, job: Job, asked: PictureOptions) -> tuple[str, tuple[str, ...]]:
    """The codec by name; where that is left open a graphics card's, if one encodes here what the film needs."""
    options, deep = asked.video, info.depth == 16 and asked.depth != "8"
    if options.codec.endswith(hardware.FAMILIES):
        if why := hardware.fault(options.codec, _FLAT, _told_card(options.codec)):
            raise UsageError(f"--codec {options.codec} does not work here: {why}. Leave it out, or name h264 or hevc.")
        return options.codec, ()
    if options.codec != "auto":
        return options.codec, ()
    name = "av1" if job.format == "WEBM" else "hevc" if deep and job.width >= _X265_WIDTH else "h264"
    usual = info.first is not None or (info.pixels.across, info.pixels.down, info.pixels.bits <= 10) == (2, 2, True)
    told = options.preset or options.encoder or options.pix_fmt  # in the words of the usual encoders
    if told or not usual or info.hdr10 or min(job.width, job.height) < _CARD_PX or (deep and name == "h264"):
        return name, ()
    found, trouble = hardware.best(name, _DEEP if deep else _FLAT, _told_card)
    return (found or name), trouble


def _told_card(encoder: str) -> tuple[tuple[str, str], ...]:
    """What a graphics card's encoder is told where the user says nothing."""
    return _told(encoder, _CODECS[encoder], VideoOptions(), PixelFormat.of(_FLAT), ())


def add_to(container: OutputContainer, encoding: Encoding, name: str = "") -> VideoStream:
    """A stream for what was encoded so; its encoder is open, for the headers. InputError where it has no place."""
    try:
        stream = container.add_stream(encoding.encoder, rate=encoding.info.rate)
    except ValueError as error:
        raise InputError(
            f"{encoding.muxer} holds no {name or encoding.encoder}. Choose mkv, or another --codec."
        ) from error
    stream.time_base = encoding.info.time_base
    assert isinstance(stream, VideoStream)
    _prepare(stream.codec_context, encoding)
    if encoding.encoder.startswith(("libx265", "hevc_")) and encoding.muxer in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # without it some players show nothing
    return stream


def encoder(encoding: Encoding) -> VideoCodecContext:
    """An encoder at its beginning."""
    context = av.CodecContext.create(encoding.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    _prepare(context, encoding)
    return context


def _prepare(context: VideoCodecContext, encoding: Encoding) -> None:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it knows no other way to be told
    info, color = encoding.info, encoding.color
    context.width, context.height = encoding.width, encoding.height
    context.pix_fmt = encoding.pixels.name
    context.time_base, context.framerate = info.time_base, info.rate
    context.sample_aspect_ratio = info.sample_aspect
    context.color_primaries, context.color_trc = color.primaries, color.transfer
    context.colorspace, context.color_range = color.matrix, color.range
    context.options = dict(encoding.options)
    context.flags |= Flags.global_header
    try:
        context.open()
    except (FFmpegError, OSError) as error:
        told = " ".join(f"{key}={value}" for key, value in encoding.options)
        raise UsageError(
            f"{encoding.encoder} cannot be opened with {told}: {error.strerror or error}.".lower()
        ) from error
    if context.options:
        raise UsageError(f"-e {next(iter(context.options))}: {encoding.encoder} has no such option.")


def _told(
    name: str, codec: _Codec, options: VideoOptions, pixels: PixelFormat, hdr10: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """The options of the encoder: ours, overruled by the user's."""
    told = dict(codec.options)
    crf = None if options.crf is None else f"{options.crf:g}"
    for option, value, own in (("crf", crf, codec.crf), ("preset", options.preset, codec.preset)):
        if own is not None:
            told[codec.crf_as if option == "crf" else option] = value or str(own)
        elif value is not None:
            raise UsageError(f"--{option}: {name} has none. Leave it out.")
    if name == "h264" and has_avx512():
        # x264's lookahead reads memory it never wrote in AVX-512: the same frames, other packets. No slower without.
        told["x264-params"] = "asm=avx2"
    if name == "hevc":
        told["x265-params"] = ":".join((told["x265-params"], *hdr10))
    if name == "prores":
        told["profile"] = "hq" if pixels.across == 2 else "4444"
    for pair in options.encoder:
        key, _, value = pair.partition("=")
        told[key] = f"{told[key]}:{value}" if key.endswith("-params") and key in told else value
    return tuple(told.items())


def _pixel_format(codec: _Codec, info: VideoInfo, options: VideoOptions, depth: str) -> PixelFormat:
    """As asked for, or the nearest that loses least: bits first, then chroma."""
    names = [format.name for format in av.Codec(codec.encoder, "w").video_formats or ()]
    if options.pix_fmt is not None:
        if options.pix_fmt not in names:
            fitting = ", ".join(filter(codec.formats.fullmatch, names))
            raise UsageError(f"--pix-fmt {options.pix_fmt}: {codec.encoder} takes {fitting}.")
        return PixelFormat.of(options.pix_fmt)
    source = info.pixels
    bits = source.bits if depth == "keep" else int(depth)
    across, down = (1, 1) if source.rgb else (source.across, source.down)
    if info.turn % 2:
        across, down = down, across
    if info.first is not None and codec.shown:
        bits, across, down = min(bits, 10), 2, 2

    def loss(format: PixelFormat) -> tuple[int, ...]:
        return (
            max(0, bits - format.bits),
            source.rgb and not format.rgb,
            max(0, format.across - across) + max(0, format.down - down),
            not source.rgb and format.rgb,
            max(0, format.bits - bits),
            max(0, across - format.across) + max(0, down - format.down),
        )

    return min((PixelFormat.of(name) for name in names if codec.formats.fullmatch(name)), key=loss)


def _losses(info: VideoInfo, pixels: PixelFormat) -> Iterator[str]:
    """What the pixel format cannot hold of the source."""
    source = info.pixels
    if pixels.bits < source.bits:
        yield f"{source.bits} bits became {pixels.bits} ({pixels.name})"
    if pixels.across * pixels.down > source.across * source.down:
        yield f"chroma of {source.name} became that of {pixels.name}"
