"""Tiles of a picture, and of those that come after it, in batches through one engine: filled, sent ahead, checked.

Tiles sent with those of an earlier picture wait for their own picture's turn. What goes together follows from which
pictures were said to come, never from how long anything took. Where nothing usable comes of pictures together, each
goes again without the others. Refuses to choose sizes, and to go on without memory.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from upscale_cli.engines.interface import Engine, Tiles
from upscale_cli.errors import InferenceError, NonFiniteOutputError
from upscale_cli.recall import Inferred, Recall
from upscale_cli.strips import Rows
from upscale_cli.tiles import Floats, Pixels, Plan, Tile

_BLACK_OUT = 1 / 255
_NOT_BLACK_IN = 5 / 255
_SPARSE = 16  # of rows and columns, enough to see that a tile is not black
# An enlargement is another picture where blocks of it have other means, or more than one pixel in fifty lies beyond all
# around it in the source. Of the networks that ship, of text, dots, pixel art and noise: 0.16 and 0.014.
_ROWS = 64  # that are looked at of a tile: a millisecond
_NEAR = np.arange(-2, 3)
_BLOCK = 16
_ASTRAY = 0.2
_ASTRAY_SHARE = 0.02


class Made(NamedTuple):
    """One tile of a picture, enlarged."""

    tile: Tile
    pixels: Floats
    """sH x sW x 3 in [0, 1]; they stay until the next is asked for."""
    reused: bool
    """As in an earlier picture, and not inferred."""
    redone: bool
    """In fp32."""
    astray: bool
    """Another picture than the tile was."""
    last: bool
    """Of its batch."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Tiles that follow each other."""

    lr: Pixels
    """N x H x W x 3: of those that are new, what goes to the engine."""
    tiles: list[tuple[Rows, Tile, Inferred | None]] = field(default_factory=list)
    """Each with the picture it is of, and what is known of it where it is not new."""
    remembered: list[Inferred | None] = field(default_factory=list)
    """For each that is new, where its enlargement is kept."""
    asked: Callable[[], Floats] = lambda: np.empty(0, np.float32)

    def apart(self) -> list["_Batch"]:
        """The same, each picture for itself."""
        parts, done = [], 0
        for _, group in itertools.groupby(self.tiles, key=lambda each: id(each[0])):
            tiles = list(group)
            new = slice(done, done + sum(known is None for _, _, known in tiles))
            parts.append(_Batch(self.lr[new], tiles, self.remembered[new]))
            done = new.stop
        return parts


class Batches:
    """The tiles of pictures of one size, in their order."""

    def __init__(
        self,
        engine: Engine,
        grid: Plan,
        *,
        top: int,
        size: int,
        recall: Recall | None,
        wide: Callable[[], Engine],
    ) -> None:
        """`grid` lies in every picture from row `top` on; a batch is `size` new tiles. `wide` gives the fp32 twin."""
        self.engine = engine
        self.size = size
        self._grid = grid
        self._top = top
        self._recall = recall
        self._wide = wide
        self._told: deque[Rows] = deque()
        self._uncut: deque[Rows] = deque()
        self._places = _places(self._uncut, grid)
        self._waiting: deque[_Batch] = deque()
        self._again: deque[_Batch] = deque()
        """To be submitted once more, before anything else."""
        self._made: deque[Made] = deque()
        if recall:
            recall.begin(grid)

    def expects(self, source: Rows) -> bool:
        """Whether this picture is the next of those said to come."""
        return bool(self._told) and self._told[0] is source

    @property
    def over(self) -> bool:
        """Whether no picture was said to come."""
        return not self._told

    def tiles(self, source: Rows, coming: Sequence[Rows]) -> Iterator[Made]:
        """Every tile of the next picture. Batches with room for more, and those sent ahead, take tiles of the ones
        that are `coming`, all of its size and depth. Raises InferenceError when no usable tile comes out.
        """
        new = [each for each in (source, *coming) if each not in self._told]
        self._told.extend(new)
        self._uncut.extend(new)
        self._told.popleft()
        for _ in range(len(self._grid)):
            while not self._made:
                self._make()
            yield self._made.popleft()

    def _make(self) -> None:
        """The tiles of the next batch, behind which as many are submitted as the engine wants; none where its pictures
        have to go apart.
        """
        while len(self._waiting) < self.engine.in_flight and (
            batch := self._again.popleft() if self._again else self._cut()
        ):
            if len(batch.lr):
                batch.asked = self.engine.submit(batch.lr)
            self._waiting.append(batch)
        batch = self._waiting.popleft()
        answer = self._answer(batch)
        if answer is None:
            return
        sr, redone = answer
        for kept, pixels in zip(batch.remembered, sr, strict=True):
            if kept:
                kept.sr = pixels.copy()
        fresh = zip(batch.lr, sr, strict=True)
        for left, (_, tile, known) in zip(reversed(range(len(batch.tiles))), batch.tiles, strict=True):
            lr, pixels = next(fresh) if known is None else (None, known.sr)
            assert pixels is not None  # it was in a batch before, or earlier in this one
            astray = lr is not None and self.engine.scale > 1 and _astray(lr, pixels, self.engine.scale)
            self._made.append(Made(tile, pixels, known is not None, redone and known is None, astray, not left))

    def _cut(self) -> _Batch | None:
        """As many new tiles of the pictures at hand as make a batch; None where all are on their way."""
        grid, new = self._grid, 0
        lr: Pixels | None = None
        batch = _Batch(np.empty(0, np.uint8))
        most = self.size + len(grid.columns.starts)  # of a frame that stands still too, strips come early
        while new < self.size and len(batch.tiles) < most and (place := next(self._places)):
            source, tile = place
            if lr is None:
                lr = np.empty((self.size, grid.rows.side, grid.columns.side, 3), source.dtype)
            source.fill(lr[new], self._top + tile.top, tile.left)
            known = self._recall.find(tile, lr[new]) if self._recall else None
            batch.tiles.append((source, tile, known))
            if known is None:
                batch.remembered.append(self._recall.add(tile, lr[new], self.engine.scale) if self._recall else None)
                new += 1
        if lr is None:
            return None
        batch.lr = lr[:new]
        return batch

    def _answer(self, batch: _Batch) -> tuple[Floats, bool] | None:
        """A batch that was submitted, enlarged, and whether it had to be redone in fp32. None where one of several
        pictures spoils it: which one shows when they go apart, and the others come out as if it had not been there.
        """
        engine, lr = self.engine, batch.lr
        if not len(lr):
            return batch.asked(), False
        try:
            return _checked(engine, lr, batch.asked()), False
        except (NonFiniteOutputError, _BlackTileError) as error:
            if len(parts := batch.apart()) > 1:
                # An engine loses what is under way when an earlier one fails, so that goes again too.
                self._again.extendleft(reversed([*parts, *self._waiting]))
                self._waiting.clear()
                return None
            if engine.precision == "fp32":
                raise _broken(engine) from error
        wide = self._wide()
        try:
            return _checked(wide, lr, wide.infer(lr)), True
        except (NonFiniteOutputError, _BlackTileError) as error:
            raise _broken(wide) from error


def _places(sources: deque[Rows], grid: Plan) -> Iterator[tuple[Rows, Tile] | None]:
    """Every tile of every picture that is put among these; None while there are no more."""
    while True:
        if sources:
            source = sources.popleft()
            yield from ((source, tile) for tile in grid)
        else:
            yield None


class _BlackTileError(InferenceError):
    """The network made black of something that was not."""


def _checked(engine: Engine, lr: Tiles, sr: Floats) -> Floats:
    expected = (len(lr), lr.shape[1] * engine.scale, lr.shape[2] * engine.scale, 3)
    if sr.shape != expected:
        raise InferenceError(
            f"{engine.name} gave {sr.shape} where x{engine.scale} is {expected}. Its weights do not fit."
        )
    for before, after in zip(lr, sr, strict=True):
        black = after[::_SPARSE, ::_SPARSE].max() < _BLACK_OUT and after.max() < _BLACK_OUT
        if black and before.mean() > _NOT_BLACK_IN * np.iinfo(before.dtype).max:
            raise _BlackTileError(f"{engine.name} gave a black tile in {engine.precision}.")
    return sr


def _astray(lr: Pixels, sr: Floats, scale: int) -> bool:
    """Whether an enlargement is another picture than its tile: by more than any sharpening makes of it.

    Published networks lose themselves in what they never saw: SPAN, trained on photographs, makes noise of text.
    """
    rows = np.arange(2, len(lr) - 2, max(5, len(lr) // _ROWS | 1))  # of dots and stripes, light ones and dark ones
    if not len(rows):
        return False
    near, unit = lr[rows[:, None] + _NEAR], np.float32(1 / np.iinfo(lr.dtype).max)
    line = np.ones((1, len(_NEAR)), np.uint8)
    around = cv2.erode(near.min(1), line), lr[rows], cv2.dilate(near.max(1), line)
    least, source, most = (each[:, ::3] * unit for each in around)
    seen = sr[rows * scale, ::scale][:, ::3]
    if (np.maximum(seen - most, least - seen) > _ASTRAY).mean() > _ASTRAY_SHARE:
        return True
    height, width = (side // _BLOCK * _BLOCK for side in seen.shape[:2])
    shift = (seen - source)[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    return bool(np.abs(shift.mean((1, 3))).max(initial=0) > _ASTRAY)


def _broken(engine: Engine) -> InferenceError:
    return InferenceError(
        f"{engine.name} gives no usable picture: NaN or a black tile, in fp32 too. "
        "Check its weights with `upscale models verify`, or choose another --model."
    )
