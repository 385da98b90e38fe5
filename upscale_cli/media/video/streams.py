"""Everything of a container beside its film: sound, subtitles, attachments, data, chapters, tags, packet for packet."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import AttachmentStream, Stream

from upscale_cli.media.video.container import alpha_tags

if TYPE_CHECKING:
    from av.container.core import Chapter  # only its types have it

_TEXT = {"mov_text", "subrip", "srt", "text", "webvtt"}
_WRITTEN_ANEW = re.compile(
    r"encoder|duration(-\w+)?|major_brand|minor_version|compatible_brands|bps(-\w+)?|number_of_\w+(-\w+)?|_statistics_.*"
    r"|language|filename|mimetype|handler_name|vendor_id|creation_time|timecode",
    re.IGNORECASE,
)
"""Tags that say how the old file was made, or that the container has a place of its own for."""
_MARKUP = re.compile(rb"<[^<>]*>|\{\\[^{}]*\}")
_TEXT_CODEC = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of a source, in seconds as it counts them; it begins at 0 afterwards."""

    start: Fraction
    end: Fraction | None

    def move(self, packet: Packet) -> bool:
        """Whether the packet is of it; if so, it is moved."""
        time = packet.pts if packet.pts is not None else packet.dts
        at = Fraction(time or 0) * packet.time_base
        if at < self.start or (self.end is not None and at >= self.end):
            return False
        back = round(self.start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - back
        packet.dts = None if packet.dts is None else packet.dts - back
        return True

    def chapters(self, found: "list[Chapter]") -> "list[Chapter]":
        """Those that reach into it."""
        kept: list[Chapter] = []
        for chapter in found:
            unit = chapter["time_base"] or Fraction(1, 1_000_000)  # as FFmpeg counts
            back = round(self.start / unit)
            end = chapter["end"] if self.end is None else min(chapter["end"], round(self.end / unit))
            if end > max(back, chapter["start"]):
                kept.append({**chapter, "start": max(0, chapter["start"] - back), "end": end - back})
        return kept


class Others:
    """The streams of `source` that are copied into `target`. Make it before the first packet is written."""

    def __init__(
        self, source: InputContainer, target: OutputContainer, film: int, add_film: Callable[[], Stream]
    ) -> None:
        """`film` is the stream that is left out, in whose place `add_film` puts another; `notes` says what else is."""
        self.notes: list[str] = []
        self._source = source
        self._target = target
        self._map: dict[int, Stream] = {}
        self._texts: set[int] = set()
        for stream in source.streams:
            if stream.index == film:
                self.film = add_film()
                _describe(self.film, stream)
                for tag in alpha_tags(self.film):
                    del self.film.metadata[tag]
            else:
                self._add(stream)

    def packets(self, cut: Cut | None) -> Iterator[Packet]:
        """The packets of these streams, in the order of the source, each on its new stream; those of the cut."""
        if not self._map:
            return
        try:
            for packet in self._source.demux(*(self._source.streams[index] for index in self._map)):
                if not packet.size or (packet.dts is None and packet.pts is None):
                    continue
                if cut is None or cut.move(packet):
                    yield self._moved(packet)
        except (FFmpegError, OSError):
            self.notes.append("the streams beside the film end where the file is cut off")

    def _moved(self, packet: Packet) -> Packet:
        target = self._map[packet.stream.index]
        if packet.stream.index in self._texts:
            text = Packet(_text(bytes(packet), packet.stream.codec_context.name, self._target.format.name))
            text.pts, text.dts, text.duration, text.time_base = (
                packet.pts, packet.dts, packet.duration, packet.time_base)  # fmt: skip
            text.is_keyframe = True
            packet = text
        packet.stream = target
        return packet

    def _add(self, stream: Stream) -> None:
        name = stream.codec_context.name if stream.codec_context else stream.type
        try:
            made = self._made(stream, name)
        except (ValueError, FFmpegError, NotImplementedError):
            what = "attachment" if stream.type == "attachment" else f"{stream.type} stream {stream.index}"
            self.notes.append(
                f"{what} dropped: {self._target.format.name} holds no {stream.metadata.get('filename', name)}"
            )
            return
        if made is None:
            return
        _describe(made, stream)
        if stream.type != "attachment":
            self._map[stream.index] = made

    def _made(self, stream: Stream, name: str) -> Stream | None:
        if isinstance(stream, AttachmentStream):
            if self._target.format.name != "matroska":
                raise ValueError
            found = stream.metadata
            return self._target.add_attachment(found.get("filename", ""), found.get("mimetype", ""), stream.data)
        wanted = _TEXT_CODEC[self._target.format.name]
        if stream.type == "subtitle" and name in _TEXT and not _same_text(name, wanted):
            made = self._target.add_mux_stream(wanted)
            made.time_base = stream.time_base
            self._texts.add(stream.index)
            self.notes.append(f"subtitle stream {stream.index}: {name} became {wanted}")
            return made
        return self._target.add_stream_from_template(stream, opaque=True)


def _describe(made: Stream, stream: Stream) -> None:
    """What a stream is called, in which language, and what it is for."""
    made.metadata.update(tags(stream.metadata))
    kept = ("language", "handler_name", "creation_time", "timecode")
    made.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() in kept})
    made.disposition = stream.disposition


def carry_tags(source: InputContainer, target: OutputContainer) -> None:
    """Those of the whole file."""
    target.metadata.update({key: value for key, value in source.metadata.items() if not _WRITTEN_ANEW.fullmatch(key)})
    if "creation_time" in source.metadata:
        target.metadata["creation_time"] = source.metadata["creation_time"]


def tags(found: dict[str, str]) -> dict[str, str]:
    """Those that are still true of a copy."""
    return {key: value for key, value in found.items() if not _WRITTEN_ANEW.fullmatch(key)}


def _same_text(before: str, after: str) -> bool:
    plain = {"subrip", "srt", "text"}
    return before == after or {before, after} <= plain


def _text(packet: bytes, before: str, muxer: str) -> bytes:
    """A subtitle of one kind of text as another (3GPP TS 26.245 section 5.17: a length, then the text)."""
    text = packet[2 : 2 + int.from_bytes(packet[:2], "big")] if before == "mov_text" else packet
    if muxer not in ("mp4", "mov"):
        return text
    plain = _MARKUP.sub(b"", text).replace(b"\r\n", b"\n").strip()
    return len(plain).to_bytes(2, "big") + plain
