"""A strong network on keyframes of a film, a light one on every frame, and between what the strong one added there.

A keyframe is the first frame of a scene and every N-th. What the strong network adds to the light one's picture is
moved along with the film, and fades where the source does not match. Where every pixel stood still since, it is shown
whole, and that is the strong network's own picture; so is the first of a scene. Elsewhere only a share of it is shown,
on the keyframe too, or the film would flicker with them (measured in benchmarks/LOG.md). Knows no file.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from upscale_cli.enlarge import Effort, Upscaler
from upscale_cli.media.frame import Frame
from upscale_cli.motion import Motion
from upscale_cli.strips import Rows
from upscale_cli.trace import Added, Kept, Scene

_SHARE = 0.4  # of what is added, where something moves
_REACH_PX = 16  # from which on a change is little to what a network makes of a pixel
_STANDS = 4  # frames without a change after which a film stands, and drawings that are shown twice or thrice do not


class Keyframes:
    """The frames of a film in their order."""

    def __init__(self, strong: Upscaler, every: int) -> None:
        """`every`: 1 or more frames from one keyframe to the next of a scene; 1 is `strong` alone."""
        self.effort = Effort()
        """What the last frame took of the strong network."""
        self._strong = strong
        self._every = every
        self._share = 1.0 if every == 1 else _SHARE
        self._frames = self._keys = 0
        self._forget()

    def begin(self, static: float | None) -> None:
        """What comes now has nothing to do with what came before; `static` as for `Upscaler.begin`."""
        self._strong.begin(static)
        self._forget()

    def _forget(self) -> None:
        self._scene = Scene()
        self._added: Added | None = None
        self._settled = np.empty((0, 0), np.bool_)  # where what was added is of the very pixels that are there now
        self._age = self._stood = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """How often the strong network was asked."""
        if not self._keys:
            return ()
        return (f"{self._strong.name} on {self._keys:,} of {self._frames:,} frame{'s' * (self._frames > 1)}",)

    def strips(
        self, source: Frame, made: Iterable[Frame], height: int, width: int, *, depth: int | None = None
    ) -> Iterator[Frame]:
        """The strips of the light network's enlargement of `source`, `height` x `width` in all, with what is added.

        `depth` is that of `made`, and raised is, as for `Upscaler.strips`.
        """
        kept = self._scene.take(source.color)
        still = np.ones(source.color.shape[:2], np.bool_) if kept is None else _still(kept)
        key = self._due(kept)
        self._settled = still if key else self._settled & still
        share = cv2.resize(np.where(self._settled, np.float32(1), np.float32(self._share)), (width, height))
        strong = self._strong.strips(source, height, width, depth=depth) if key else iter(())
        carried = None if kept is None or key else self._carried(kept, still, height, width)
        best: Rows | None = None
        added: Added | None = None
        top = 0
        for strip in made:
            dtype, rows = strip.color.dtype, (top, top + strip.height)
            added = added or Added(height, width, strip.channels, deep=dtype == np.uint16)
            if carried:
                levels = carried(rows)
            else:
                best = best or Rows((each.color for each in strong), (height, width, strip.channels), dtype)
                levels = best.take(*rows) - strip.color.astype(np.float32)
                best.let_go(rows[1])
            shown = strip.color + share[slice(*rows), :, None] * added.put(rows, levels)
            top = rows[1]
            yield replace(strip, color=np.rint(shown).clip(0, np.iinfo(dtype).max).astype(dtype))
        for _ in strong:  # all of it was taken; what it took is known once it has ended
            pass
        self._added = added
        self.effort = self._strong.effort if key else Effort()
        self._frames, self._keys = self._frames + 1, self._keys + bool(self.effort.tiles)

    def _carried(
        self, kept: Kept, still: np.ndarray, height: int, width: int
    ) -> Callable[[tuple[int, int]], np.ndarray]:
        """What gives rows of what was added, moved to where it is in a picture of this size, and faded."""
        before = self._added
        assert before is not None  # a scene begins with a keyframe
        if kept.same.all():
            return before.take
        # Flow makes something up where nothing changed, too.
        held = Motion(np.where(still[..., None], np.float32(0), kept.motion.flow), kept.motion.known | still)
        motion = held.enlarged(height, width)
        match = cv2.resize(np.where(still, np.float32(1), kept.match), (width, height))
        return lambda rows: before.moved(motion, rows) * match[slice(*rows), :, None]

    def _due(self, kept: Kept | None) -> bool:
        """Whether the next frame is a keyframe. One that repeats comes out the same, so it is none, but for once where
        a film has come to stand on what was carried there.
        """
        self._age += 1
        if kept is not None and kept.same.all():
            self._stood += 1
            due = self._stood == _STANDS and not self._settled.all()
        else:
            self._stood = 0
            due = kept is None or self._age >= self._every
        self._age *= not due
        return due


def _still(kept: Kept) -> np.ndarray:
    """H x W of bool: where nothing has changed as far as a network looks."""
    side = 2 * _REACH_PX + 1
    return cv2.erode(kept.same.view(np.uint8), np.ones((side, side), np.uint8)).astype(np.bool_)
