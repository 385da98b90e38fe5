"""Frames through filters of FFmpeg, one graph for frames of one kind. Decodes and encodes nothing."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.video.frame import VideoFrame

EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
"""For `scale`. Without these flags colours come out up to two levels darker."""


class Chain:
    """Filters in a row."""

    def __init__(self, like: VideoFrame, time_base: Fraction, steps: Sequence[tuple[str, str]]) -> None:
        """For frames of the size and the pixel format of `like`."""
        self.kind = _kind(like)
        self._graph = Graph()
        self._graph.threads = 1  # two gained nothing
        last = self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=time_base)
        for name, arguments in (*steps, ("buffersink", "")):
            step = self._graph.add(name, arguments)
            last.link_to(step)
            last = step
        self._graph.configure()

    def fits(self, frame: VideoFrame) -> bool:
        """Whether the frame is of the kind it was made for."""
        return _kind(frame) == self.kind

    def through(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """What comes out when this frame goes in; None is the end, after which the rest comes."""
        self._graph.push(frame)
        while True:
            try:
                made = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(made, VideoFrame)
            yield made


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
