"""A style for pictures in other colours than sRGB, which is all that styles know: to sRGB, through the style, and back.

The style sees what sRGB can show, in 16 bits. What it cannot be shown, colours beyond sRGB and what 16 bits round off,
is kept beside, and added to what the style makes of the rest: a style that changes nothing gives the picture back.
Refuses files, threads and torch.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from upscale_cli.grade import Grade
from upscale_cli.media.colorspace import Space
from upscale_cli.stage import Effort, Stage, Tick
from upscale_cli.strips import Rows
from upscale_cli.tiles import Depth, Floats, Pixels, Plan

_DEEP = np.dtype(np.uint16)
_STEP = np.float32(1 / 65535)


class Converted:
    """A stage of scale 1 whose pictures come and go in another space. A `Stage` to whoever runs it."""

    def __init__(self, stage: Stage | Grade, space: Space) -> None:
        self.engine = stage.engine
        self._stage = stage
        self._space = space

    @property
    def effort(self) -> Effort:
        """What the last picture took, so far."""
        return self._stage.effort

    def plan(self, height: int, width: int) -> Plan:
        """That of the stage."""
        return self._stage.plan(height, width)

    def enlarge(self, source: Rows, *, dtype: Depth, tick: Tick, coming: Sequence[Rows] = ()) -> Iterator[Pixels]:
        """H x W x 3 or 1 (grey), strip by strip, as many in all, in the space of the source; each for itself."""
        shown, done = _Shown(source, self._space), 0
        for styled in self._stage.enlarge(shown, dtype=_DEEP, tick=tick):
            kept = shown.kept(done, done + len(styled))
            done += len(styled)
            source.let_go(min(done, shown.needed))
            yield self._space.from_srgb(np.multiply(styled, _STEP, dtype=np.float32) + kept, dtype)


class _Shown(Rows):
    """What a style is shown of a picture: 16-bit sRGB, made anew wherever it is asked for, so that none of it waits."""

    def __init__(self, source: Rows, space: Space) -> None:
        super().__init__((), source.shape, _DEEP)
        self.needed = 0
        """The first row of the source that the style may still ask for."""
        self._source = source
        self._space = space
        self._last: tuple[tuple[int, int], Floats] = (0, 0), np.empty(0, np.float32)

    def take(self, top: int, stop: int) -> Pixels:
        shown, kept = self._split(self._source.take(top, stop))
        self._last = (top, stop), kept  # mostly the same rows come back styled, and want it next
        return shown

    def kept(self, top: int, stop: int) -> Floats:
        """What was not shown of these rows, as differences of sRGB's values."""
        rows, kept = self._last
        return kept if rows == (top, stop) else self._split(self._source.take(top, stop))[1]

    def fill(self, tile: Pixels, top: int, left: int) -> None:
        part = np.empty((*tile.shape[:2], self.shape[2]), self._source.dtype)
        self._source.fill(part, top, left)
        tile[:] = self._split(part)[0]

    def let_go(self, before: int) -> None:
        self.needed = before

    def _split(self, numbers: Pixels) -> tuple[Pixels, Floats]:
        colors = self._space.to_srgb(numbers)
        shown = np.rint(np.clip(colors, 0, 1) * np.float32(65535)).astype(np.uint16)
        colors -= np.multiply(shown, _STEP, dtype=np.float32)
        return shown, colors
