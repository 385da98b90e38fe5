"""The parts of a film and the other streams of its source, joined into one file without encoding anything again."""

import heapq
import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.stream import Stream

from upscale_cli.media.video.container import opened
from upscale_cli.media.video.encoder import Encoding, add_to
from upscale_cli.media.video.parts import Part, Parts, decoding_times
from upscale_cli.media.video.streams import Cut, Others, carry_tags, tags

_MP4_TAGS = re.compile(
    "title|artist|album|album_artist|comment|composer|copyright|date|description|genre|grouping|lyrics|synopsis|show"
    "|episode_id|network|track|creation_time",
    re.IGNORECASE,
)
"""What MP4 has a place for without being asked."""
_MILLISECONDS = ("matroska", "webm")


def join(
    parts: Parts, encoding: Encoding, made: Path, *, window: tuple[Fraction, Fraction | None] | None, keep_tags: bool
) -> list[str]:
    """Write the file, with the tags of the source or without; in a line each what else of the source has no place.

    Of a film that is made within a `window`, in seconds, all else is cut to it too, and begins with its first frame.
    Raises OSError or FFmpegError where it cannot be written, ValueError where the parts do not belong together.
    """
    info, muxer = encoding.info, encoding.muxer
    whole = list(parts.whole())
    if info.first is not None:
        with av.open(f"file:{made}", "w", format=muxer, options=_told({}, encoding)) as to:
            cut = Cut(min(whole[0].times) * info.time_base, None)
            for packet in _film(parts, whole, encoding, add_to(to, encoding), cut):
                to.mux_one(packet)
        return _rounded(whole, encoding)
    with (
        opened(info.path) as source,
        av.open(f"file:{made}", "w", format=muxer, options=_told(source.metadata, encoding)) as to,
    ):
        others = Others(source, to, info.stream, lambda: add_to(to, encoding))
        first = min(time for part in whole for time in part.times)
        cut = None if window is None else Cut(first * info.time_base, window[1])
        to.set_chapters(source.chapters() if cut is None else cut.chapters(source.chapters()))
        if keep_tags:
            carry_tags(source, to)
        for packet in heapq.merge(_film(parts, whole, encoding, others.film, cut), others.packets(cut), key=_seconds):
            to.mux_one(packet)
    return others.notes + _rounded(whole, encoding)


def _told(metadata: dict[str, str], encoding: Encoding) -> dict[str, str]:
    """What the muxer is told so that nothing shifts and no tag is lost."""
    options = {"avoid_negative_ts": "disabled"}
    if encoding.muxer in _MILLISECONDS:
        return options
    if encoding.info.time_base.numerator == 1:
        # Edit lists, which say when a stream begins, would count milliseconds.
        options["movie_timescale"] = str(encoding.info.time_base.denominator)
    if not all(map(_MP4_TAGS.fullmatch, tags(metadata))):
        options["movflags"] = "use_metadata_tags"
    return options


def _film(parts: Parts, whole: Sequence[Part], encoding: Encoding, stream: Stream, cut: Cut | None) -> Iterator[Packet]:
    back = 0 if cut is None else round(cut.start / encoding.info.time_base)
    times = [time for part in whole for time in part.times]
    decoded = iter(decoding_times(times, strict=encoding.muxer not in _MILLISECONDS))
    shown = sorted(times)
    until = dict(itertools.pairwise(shown))
    headers = {part.headers for part in whole}
    if headers != {(stream.codec_context.extradata or b"").hex()}:
        raise ValueError("its parts were made by different encoders. --overwrite makes all of it again")
    for part in whole:
        for time, key, payload in zip(part.times, part.keys, parts.packets(part), strict=True):
            packet = Packet(payload)
            packet.stream, packet.time_base = stream, encoding.info.time_base
            packet.pts, packet.dts = time - back, next(decoded) - back
            packet.duration = until.get(time, part.end) - time
            packet.is_keyframe = bool(key)
            yield packet


def _seconds(packet: Packet) -> float:
    time = packet.pts if packet.dts is None else packet.dts
    return float((time or 0) * packet.time_base)


def _rounded(whole: Sequence[Part], encoding: Encoding) -> list[str]:
    """What containers that count in milliseconds do to finer times."""
    unit = encoding.info.time_base * 1000
    inexact = encoding.muxer in _MILLISECONDS and any(
        (time * unit).denominator != 1 for part in whole for time in part.times
    )
    return [f"{encoding.muxer} counts in milliseconds: times of frames are rounded to them"] * inexact
