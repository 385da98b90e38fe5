"""Videos out: frames encoded part by part, and in the end the parts and all else of the source as one file.

Under its final name only a whole file ever stands. What a killed or failed run leaves are whole parts.
"""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from upscale_cli.errors import OutputError
from upscale_cli.media.frame import Canvas, Frame
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.paths import shown, temporary
from upscale_cli.media.pixels import to_depth
from upscale_cli.media.video.check import differences
from upscale_cli.media.video.color import scaling
from upscale_cli.media.video.container import VideoInfo
from upscale_cli.media.video.encoder import choose, encoder
from upscale_cli.media.video.filters import EXACT, Chain
from upscale_cli.media.video.join import join
from upscale_cli.media.video.parts import Parts, PartWriter, frames_a_part


class VideoSink:
    """A video being written. Use as a context manager; `write` frames in the order of their time, whole or by strips.

    `notes` says in a line each what was dropped or converted; `bytes` is what was written so far. Raises OutputError.
    """

    def __init__(self, job: Job, options: PictureOptions, info: VideoInfo) -> None:
        """`info` is the source's, from which all but the pixels comes. Raises InputError and UsageError as `choose`."""
        self.path = job.target
        self.bytes = 0
        self._encoding = choose(info, job, options)
        self.notes = list(self._encoding.notes)
        self._tags = options.keep_metadata
        self._window = info.window(options.video)
        self._parts = Parts(job.target, job.key)
        self._part_frames = frames_a_part(job.height, job.width, options.video.part_frames)
        self._canvas: Canvas | None = None
        self._chain: Chain | None = None
        self._encoder: VideoCodecContext | None = None
        self._writer: PartWriter | None = None
        self._number = self._frames = self._end = 0
        self._mark: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        try:
            if self._parts.prepare():
                self.notes.append("what an earlier run left of it was made otherwise: begun afresh")
            for part in self._parts.whole():
                self._number, self.bytes = part.number + 1, self.bytes + sum(part.sizes)
        except OSError as error:
            raise self._fault(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._close_part()
                self._join()
        except (OSError, FFmpegError, ValueError, EOFError) as fault:
            raise self._fault(fault) from fault
        finally:
            if self._writer is not None:
                self._writer.abandon()

    def write(self, frame: Frame, *, height: int | None = None) -> None:
        """Add a frame, or the next strip of one that is `height` rows high in all."""
        if self._canvas is None:
            self._canvas = Canvas(frame.height if height is None else height)
        whole = self._canvas.add(frame)
        if whole is None:
            return
        self._canvas = None
        try:
            self._encode(whole)
        except (OSError, FFmpegError) as error:
            raise self._fault(error) from error

    def _encode(self, frame: Frame) -> None:
        assert frame.pts is not None
        if self._encoder is None:
            self._encoder = encoder(self._encoding)
            self._writer = PartWriter(self._parts, self._number)
        for picture in self._converted(frame):
            self._add(self._encoder.encode(picture))
        self._frames += 1
        self._end = frame.pts + frame.ticks
        self._mark = frame.mark
        if self._frames == self._part_frames:
            self._close_part()

    def _converted(self, frame: Frame) -> Iterator[VideoFrame]:
        encoding, info = self._encoding, self._encoding.info
        below, right = encoding.height - frame.height, encoding.width - frame.width
        pixels = to_depth(frame.color, 16 if encoding.pixels.bits > 8 else 8)
        if below or right:
            pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
        picture = VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
        picture.pts, picture.time_base = frame.pts, info.time_base
        if self._chain is None:
            side = scaling("out", encoding.color, encoding.pixels, frame.height, frame.width)
            steps = (("scale", f"{EXACT}:in_range=pc:{side}"), ("format", encoding.pixels.name))
            self._chain = Chain(picture, info.time_base, steps)
        for made in self._chain.through(picture):
            made.pict_type = 0
            yield made

    def _add(self, packets: list[Packet]) -> None:
        assert self._writer is not None
        for packet in packets:
            assert packet.pts is not None
            self._writer.add(bytes(packet), time=packet.pts, key=packet.is_keyframe)
            self.bytes += packet.size

    def _close_part(self) -> None:
        if self._encoder is None or self._writer is None:
            return
        self._add(self._encoder.encode(None))
        self._writer.finish(self._encoder.extradata or b"", self._end, self._mark)
        self._encoder = self._writer = None
        self._number, self._frames = self._number + 1, 0

    def _join(self) -> None:
        """The whole film under its name; its parts go."""
        made = temporary(self.path)
        try:
            self.notes += join(self._parts, self._encoding, made, window=self._window, keep_tags=self._tags)
            whole = list(self._parts.whole())
            ticks = whole[-1].end - min(time for part in whole for time in part.times)
            self.notes += differences(made, self._encoding, seconds=ticks * self._encoding.info.time_base)
            with made.open("rb+") as file:
                os.fsync(file.fileno())
            made.replace(self.path)
        finally:
            made.unlink(missing_ok=True)
        self._parts.remove()

    def _fault(self, error: Exception) -> OutputError:
        if isinstance(error, OSError) and error.strerror:
            why = f"{error.strerror}. Make room there, or choose another -o."
        else:
            why = f"{error}. Choose another container or --codec."
        return OutputError(f"{shown(self.path)} cannot be written: {why}")
