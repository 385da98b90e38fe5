"""A picture through tables of colours, strip by strip: a stage like that of a network, which sees the whole first.

Refuses files, threads and torch.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from upscale_cli.engines.interface import Floats, unit_floats
from upscale_cli.engines.lut import Look, LutEngine, shrunk
from upscale_cli.stage import LUMA, Effort, Tick
from upscale_cli.strips import Rows
from upscale_cli.tiles import Axis, Depth, Pixels, Plan, quantise

_STRIP_PIXELS = 1_000_000  # looked up at a time: floats of them are many times their integers
_STEP = 16  # rows of a strip are a multiple, so that threads share them evenly


class Grade:
    """One table of colours a picture. A `Stage` of scale 1 to whoever runs it."""

    def __init__(self, engine: LutEngine, *, strength: float = 1.0) -> None:
        """`strength` in [0, 1] mixes in the source."""
        self.engine = engine
        self.strength = strength
        self.effort = Effort()
        """What the last picture took, so far."""
        self.look: Look | None = None
        """What the last picture was given."""

    def plan(self, height: int, width: int) -> Plan:
        """Its strips, as tiles of the whole width."""
        side = min(height, max(_STEP, _STRIP_PIXELS // width // _STEP * _STEP))
        return Plan(Axis(height, side, tuple(range(0, height, side)), 0), Axis(width, width, (0,), 0))

    def bytes(self, grid: Plan) -> int:
        """Memory of a strip at its worst moment: its floats, places in the table, colours and mixture."""
        return grid.rows.side * grid.columns.side * 3 * 4 * 5

    def begin(self, static: float | None) -> None:
        """Nothing: every frame is looked at anew."""

    def ahead(self, height: int, width: int) -> int:
        """None: there are no batches to fill."""
        return 0

    def enlarge(self, source: Rows, *, dtype: Depth, tick: Tick, coming: Sequence[Rows] = ()) -> Iterator[Pixels]:
        """H x W x 3 or 1 (grey), strip by strip, as many in all. `tick` hears strips done and strips in all."""
        grid = self.plan(source.height, source.width)
        self.effort = Effort(precision=self.engine.precision, backend=self.engine.backend)
        look = self.look = self.engine.look(self._view(source, grid))
        for done, top in enumerate(grid.rows.starts, 1):
            strip = source.take(top, min(source.height, top + grid.rows.side))
            made = look(_colored(strip))
            if self.strength < 1:
                made = self.strength * made + (1 - self.strength) * unit_floats(_colored(strip))
            if source.shape[2] == 1:
                made = made @ LUMA
            target = np.empty((len(made), made.shape[1] * made.shape[2]), dtype)
            quantise(made.reshape(target.shape), target)
            source.let_go(top + len(strip))
            tick(done, len(grid))
            yield target.reshape(made.shape)

    def _view(self, source: Rows, grid: Plan) -> Floats:
        """The whole picture, small. Its rows stay at hand."""
        if not self.engine.adaptive:
            return np.zeros((1, 1, 3), np.float32)
        factor = self.engine.shrink_factor(source.height, source.width)
        step = max(factor, grid.rows.side // factor * factor)
        tops = range(0, source.height // factor * factor, step)
        return np.concatenate(
            [shrunk(_colored(source.take(top, min(source.height, top + step))), factor) for top in tops]
        )


def _colored(strip: Pixels) -> Pixels:
    return strip.repeat(3, axis=2) if strip.shape[2] == 1 else strip
