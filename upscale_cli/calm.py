"""Less flicker: what a network added to a frame, mixed with what it added to the frame before, moved to its place.

Only the network's own detail, its picture minus plain interpolation, is averaged over time: what the source shows comes
from the frame itself, so that nothing of the one before stands behind what moves. Where the source differs from its own
frame before, moved alike, the weight falls to nothing. Knows no network and no file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from upscale_cli.media.frame import Frame
from upscale_cli.strips import Resize, whole
from upscale_cli.trace import Added, Scene

_SHARE = 0.5  # of the frame before, at strength 1


class Calm:
    """The frames of a film in their order, from a beginning on before which nothing is known."""

    def __init__(self, strength: float) -> None:
        """`strength` in [0, 1]: 0 changes nothing."""
        self._share = _SHARE * strength
        self._scene = Scene()
        self._detail: Added | None = None

    def strips(self, source: Frame, made: Iterable[Frame], height: int, width: int) -> Iterator[Frame]:
        """The strips of an enlargement of `source`, `height` x `width` in all, calmed."""
        kept, before = self._scene.take(source.color), self._detail
        motion, share = None, np.empty(0)
        if kept is not None:
            motion = kept.motion.enlarged(height, width)
            share = cv2.resize(kept.match * (1 if kept.same.all() else self._share), (width, height))
        plain: Resize | None = None
        detail: Added | None = None
        top = 0
        for strip in made:
            deep = strip.color.dtype == np.uint16
            if plain is None or detail is None:
                plain = Resize(whole(source.color), height, width, dtype=strip.color.dtype)
                detail = Added(height, width, strip.channels, deep=deep)
            rows = (top, top + strip.height)
            below = plain.take(*rows).astype(np.float32)
            added = strip.color - below
            if motion is not None and before is not None:
                added += share[slice(*rows), :, None] * (before.moved(motion, rows) - added)
            color = np.rint(below + detail.put(rows, added)).clip(0, 65535 if deep else 255)
            top = rows[1]
            yield replace(strip, color=color.astype(strip.color.dtype))
        self._detail = detail
