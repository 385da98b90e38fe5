"""Frames of a video, upright and RGB, each with its time. What cannot be decoded is counted and said."""

import itertools
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale_cli.errors import InputError
from upscale_cli.media.frame import Frame
from upscale_cli.media.job import AFRESH, Reached
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.paths import shown
from upscale_cli.media.video.color import scaling
from upscale_cli.media.video.container import opened, probe
from upscale_cli.media.video.decoder import CardError, chosen
from upscale_cli.media.video.filters import EXACT, Chain
from upscale_cli.media.video.options import VideoOptions

_KEYS = 256  # of which a decoder that works ahead may hold a frame still
_ROWS = 8  # of which one goes into a checksum
_SLACK_SECONDS = 0.5  # by which a length in a header may be wrong


class VideoSource:
    """An open video. Use as a context manager; `frames()` may be walked once.

    `missing` says after the last frame what the file should have held and did not; empty where it is whole.
    """

    metadata = Metadata()

    def __init__(self, path: Path, options: VideoOptions, *, max_pixels: int, reached: Reached = AFRESH) -> None:
        """The frames that are `reached` are not given. Raises InputError."""
        info = probe(path, max_pixels=max_pixels)
        self._card, lines = chosen(info, options.hwaccel)
        self.info = replace(info, frames=info.frames_of(options), notes=info.notes + lines)
        self.notes = list(self.info.notes)
        self.missing = ""
        self.path = path
        self._deinterlace = options.deinterlace
        self._window = self.info.window(options)
        self._reached = reached
        self._held = ExitStack()
        self._rewind()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _rewind(self) -> None:
        """As if nothing had been read."""
        self._held.close()
        self._faults = self._packets = 0
        self._broken = self._guessed = False
        self._keys: deque[tuple[int, int]] = deque(maxlen=_KEYS)

    def frames(self) -> Iterator[Frame]:
        """Every frame in the order of its time, 8 or 16 bits by what the video has."""
        reached, line = self._reached, ""
        try:
            for frame in self._beyond(reached):
                reached = Reached(reached.frames + 1, frame.mark)
                yield frame
        except CardError as error:
            assert self._card is not None
            line = f"{self._card.name} failed in the middle ({error}): decoded by the processor from there on"
        if line:
            self._card = None
            self._rewind()
            yield from self._beyond(reached)
            self._note(line)  # only now: until then nothing of the film was odd

    def _beyond(self, reached: Reached) -> Iterator[Frame]:
        frames = self._after(reached.mark) if reached.mark else None
        return itertools.islice(self._walk(), reached.frames, None) if frames is None else frames

    def _after(self, mark: tuple[int, ...]) -> Iterator[Frame] | None:
        """The frames behind the marked one, decoded from the keyframe before it.

        None where it does not come again as it was: then the decoder is not where it would be by way of all the film.
        """
        _, _, key, packets = mark
        frames, notes = self._walk((key, packets)), list(self.notes)
        with suppress(InputError):
            frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= mark[0]), None)
            if frame is not None and frame.mark[:2] == mark[:2] and self._keys[0] == (key, packets):
                return frames
        self.notes = notes
        self._rewind()
        return None

    def _walk(self, key: tuple[int, int] | None = None) -> Iterator[Frame]:
        """The frames from the first of the window on, or from a keyframe: its time, and how many packets precede it."""
        container = self._held.enter_context(self._card.opened(self.path) if self._card else opened(self.path))
        stream = container.streams[self.info.stream]
        assert isinstance(stream, VideoStream)
        if not self._card:
            stream.thread_type = ThreadType.AUTO
        last, end = None, 0
        begin, until = self._window or (None, None)
        if key is not None:
            container.seek(key[0], stream=stream)
        elif begin is not None:
            container.seek(int(begin / self.info.time_base), stream=stream)  # to the keyframe before it
        for picture in self._filtered(self._decoded(self._packets_from(key, container, stream), stream)):
            pts, ticks = self._time(picture, last, end)
            if begin is not None and pts * self.info.time_base < begin:
                continue
            if until is not None and pts * self.info.time_base >= until:
                break
            if last is not None and pts <= last:
                self._note("frames that are not later than the one before are left out")
                continue
            last, end = pts, pts + ticks
            pixels = np.ascontiguousarray(np.rot90(picture.to_ndarray(), self.info.turn))
            yield Frame(pixels, pts=pts, ticks=ticks, mark=self._mark(pts, pixels))
        if last is None:
            where = "no frame of it can be decoded." if begin is None else "it has no frame between --start and --end."
            raise InputError(f"{shown(self.path)}: {where}")
        if begin is None:
            self._count(stream, float((end - self.info.start) * self.info.time_base))

    def _mark(self, pts: int, pixels: np.ndarray) -> tuple[int, ...]:
        """Time and checksum of a frame, time and place of the keyframe before it; nothing where anything was odd
        so far, since what that does to later frames, and to what is said of the film, takes all of it to know.
        """
        key = next((key for key in reversed(self._keys) if key[0] < pts), None)
        if key is None or self._faults or self._guessed or len(self.notes) > len(self.info.notes):
            return ()
        return pts, zlib.crc32(pixels[::_ROWS].tobytes()), *key

    def _time(self, picture: VideoFrame, last: int | None, end: int) -> tuple[int, int]:
        """When it is shown and for how long, in the time base of the stream; filters count in others."""
        info = self.info
        unit = picture.time_base or info.time_base
        ticks = round((picture.duration or 0) * unit / info.time_base) or max(
            1, round(1 / (info.rate * info.time_base))
        )
        if picture.pts is None:
            self._guessed = True
            return (end if last is not None else 0), ticks
        return round(picture.pts * unit / info.time_base), ticks

    def _packets_from(
        self, key: tuple[int, int] | None, container: InputContainer, stream: VideoStream
    ) -> Iterator[Packet | None]:
        """The packets, from a keyframe on where one is named, before which some containers end up; None is the end."""
        packets = container.demux(stream)
        try:
            for packet in packets:
                if key is not None and packet.pts != key[0]:
                    continue
                if key is not None:
                    self._packets, key = key[1], None
                yield packet
        except (FFmpegError, OSError):
            self._broken = True
        yield None

    def _decoded(self, packets: Iterator[Packet | None], stream: VideoStream) -> Iterator[VideoFrame]:
        for packet in packets:
            if packet is not None and packet.is_keyframe and packet.pts is not None:
                self._keys.append((packet.pts, self._packets))
            try:
                pictures = self._card.decode(stream, packet) if self._card else stream.decode(packet)
            except (FFmpegError, OSError):
                self._faults += 1
                pictures = []
            self._packets += bool(packet is not None and packet.size)
            yield from pictures
            if packet is None or not packet.size:
                return

    def _filtered(self, pictures: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Deinterlaced where need be, of one size, RGB."""
        chain: Chain | None = None
        weave = self.info.interlaced
        for picture in pictures:
            late = picture.interlaced_frame and not weave
            weave = weave or late
            if weave:
                self._interlaced()
            if chain is None or late or not chain.fits(picture):
                if chain is not None:
                    yield from chain.through(None)
                chain = self._chain(picture, weave)
            yield from chain.through(picture)
        if chain is not None:
            yield from chain.through(None)

    def _chain(self, like: VideoFrame, weave: bool) -> Chain:
        info = self.info
        width, height = (info.height, info.width) if info.turn % 2 else (info.width, info.height)
        if (like.width, like.height) != (width, height):
            self._note(f"its size changes in the middle: all frames made {width} x {height} first")
        scale = f"{width}:{height}:{EXACT}:{scaling('in', info.color, info.pixels, height, width)}:out_range=pc"
        steps = [("scale", scale), ("format", "rgb48le" if info.depth == 16 else "rgb24")]
        if weave:
            steps.insert(0, ("bwdif", "mode=send_frame:deint=interlaced"))
        return Chain(like, info.time_base, steps)

    def _interlaced(self) -> None:
        if not self._deinterlace:
            raise InputError(f"{shown(self.path)}: is interlaced. Leave out --no-deinterlace to have it deinterlaced.")
        self._note("interlaced: deinterlaced by bwdif")

    def _count(self, stream: VideoStream, seconds: float) -> None:
        """What is missing by what the container promised."""
        # Others count what is not there, as AVI its empty packets, or not at all.
        lost = stream.frames - self._packets if self.info.format in ("MP4", "MOV") else 0
        if lost > 0:
            self.missing = f"{lost} of its {stream.frames} frames are missing: the file is cut off"
        elif self._broken or (self.info.seconds and seconds < self.info.seconds - _SLACK_SECONDS):
            length = f" of {self.info.seconds:.1f} s" if self.info.seconds else ""
            self.missing = f"ends after {seconds:.1f} s{length}: the file is cut off"
        elif self._faults:
            self.missing = f"{self._faults} of its {self._packets} frames cannot be decoded"

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
