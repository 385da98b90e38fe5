"""One frame through one network, or several in a row, by strips: depth, grey, alpha, the size asked for.

Memory holds the source and a few strips, whatever the height. Refuses files, threads and torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscale_cli.converted import Converted
from upscale_cli.cube import Cube
from upscale_cli.engines.compose import Softened
from upscale_cli.engines.interface import Engine
from upscale_cli.engines.lut import LutEngine
from upscale_cli.errors import OutOfMemoryError, UsageError
from upscale_cli.grade import Grade
from upscale_cli.media.colorspace import Space
from upscale_cli.media.frame import Canvas, Frame
from upscale_cli.stage import Effort, Stage, Tick
from upscale_cli.strips import Resize, Rows, bleed, mix, whole
from upscale_cli.tiles import RAMP_PX, Depth, Pixels, Plan

_Step = Stage | Grade | Converted

_AHEAD = 3  # strips there are at once: in the making, waiting, and being written


@dataclass(frozen=True, slots=True)
class Cost:
    """What a picture would take, without running anything."""

    tiles: int
    tile_px: int
    bytes: int
    """Memory at the worst moment: the source, tiles in the network, and strips, or the whole enlargement."""
    network_pixels: tuple[int, ...]
    """What goes into each of the networks but the style's; what tiles share counts as often as it goes."""


class Upscaler:
    """Enlarges frames by one or more engines in a row; native scales multiply. Remembers the tile size it learned."""

    def __init__(
        self,
        stages: Sequence[Engine],
        *,
        tile_px: int = 0,
        overlap_px: int | None = None,
        batch: int | None = None,
        strength: float = 1.0,
        style: Engine | LutEngine | None = None,
        style_strength: float = 1.0,
    ) -> None:
        """`tile_px` is the most a tile's side may be, 0 to have it chosen; `overlap_px` what neighbours share, None for
        all the network needs; `batch` tiles at a time, None to have it chosen from memory; `strength` in [0, 1] mixes
        the network's picture with a bicubic one. A `style`, an engine of scale 1, comes before the others, and mixed
        by `style_strength` with the source: 0 leaves it out. UsageError for values outside.
        """
        if not stages and style is None:
            raise UsageError("Nothing can be enlarged without a model. Name at least one.")
        if not 0 <= strength <= 1:
            raise UsageError(
                f"Strength {strength:g} means nothing. Choose a number from 0 (bicubic) to 1 (the network)."
            )
        for name, value, least in (("tile", tile_px, 0), ("overlap", overlap_px, 0), ("batch", batch, 1)):
            if value is not None and value < least:
                raise UsageError(f"A {name} of {value} means nothing. Use {least} or more.")
        self.scale = math.prod(engine.scale for engine in stages)
        self.strength = strength
        self.effort = Effort()
        """What the last frame took; complete after its last strip."""
        self._foreseen: dict[Frame, Rows] = {}

        def stage(engine: Engine, before: Sequence[Engine] = ()) -> Stage:
            if engine.in_flight > 1 and any(each is engine for each in before):
                engine = engine.in_precision(engine.precision)  # what one has under way, the other would overwrite
            return Stage(engine, tile_px=tile_px, overlap_px=overlap_px, batch=batch)

        self._networks = [stage(engine, stages[:place]) for place, engine in enumerate(stages)]
        self._style: list[Stage | Grade] = []
        if isinstance(style, LutEngine) and style_strength:
            self._style = [Grade(style, strength=style_strength)]
        elif style is not None and not isinstance(style, LutEngine) and style_strength:
            self._style = [stage(style if style_strength == 1 else Softened(style, style_strength))]

    @property
    def styled(self) -> bool:
        """Whether pictures are given a style, before anything else."""
        return bool(self._style)

    @property
    def name(self) -> str:
        """Of its networks, without the style."""
        return " + ".join(stage.engine.name for stage in self._networks)

    @property
    def cube(self) -> Cube | None:
        """The style of the last frame as a table of sRGB, its strength in it; None where the style is no table."""
        grade = self._style[0] if self._style else None
        return grade.look.cube(grade.strength) if isinstance(grade, Grade) and grade.look else None

    def begin(self, static: float | None) -> None:
        """The next frame has nothing to do with those before, nor was told of. From it on, tiles that change by no more
        than `static` levels of 255 from frame to frame are inferred once; None is for pictures that have nothing in
        common.
        """
        self._foreseen = {}
        for stage in (*self._style, *self._networks):
            stage.begin(static)

    def expects(self, frame: Frame) -> bool:
        """Whether it was told that this frame comes next, or among the next, and may have begun with it."""
        return frame in self._foreseen

    def enlarge(
        self,
        frame: Frame,
        height: int,
        width: int,
        *,
        depth: int | None = None,
        space: Space | None = None,
        progress: Tick | None = None,
    ) -> Frame:
        """The strips of `strips` as one picture."""
        canvas = Canvas(height)
        picture = None
        for strip in self.strips(frame, height, width, depth=depth, space=space, progress=progress):
            picture = canvas.add(strip)
        assert picture is not None
        return picture

    def ahead(self, frame: Frame, height: int, width: int) -> int:
        """How many frames `strips` should be told to come after such a one, where they are of its size: as many as
        keep the first network's batches full and early; 0 where that gains nothing.
        """
        stages = [*self._style, *self._needed(frame.color, height, width)]
        return stages[0].ahead(frame.height, frame.width) if stages else 0

    def strips(
        self,
        frame: Frame,
        height: int,
        width: int,
        *,
        depth: int | None = None,
        space: Space | None = None,
        progress: Tick | None = None,
        coming: Sequence[Frame] = (),
    ) -> Iterator[Frame]:
        """Network to the native scale, then an antialiased resize to `height` x `width` where that differs.

        The picture comes in strips from top to bottom, each of the whole width. Depth, grey and alpha stay what they
        are; 16 as `depth` makes 16 bits of 8. Colour under fully transparent pixels is replaced by that of the nearest
        visible one, so no fringe comes of it. A picture no larger than its source is resized only, unless the network
        is one that does not enlarge. The `space` of the frame, where it is not sRGB, is the style's concern alone.
        `progress` hears tiles done and tiles in all; those in all become more when memory runs out. What frames are
        `coming` next changes no picture: their tiles only go through the network with those of this one.
        Raises InferenceError when no usable picture comes out, OutOfMemoryError when the machine has no room for it.
        """
        self.effort = Effort()
        dtype: Depth = np.dtype(np.uint16) if depth == 16 else frame.color.dtype
        done = 0
        try:
            rows = self._foreseen.get(frame) or _rows(frame)
            self._foreseen = {each: self._foreseen.get(each) or _rows(each) for each in coming}
            alpha = None if frame.alpha is None else Resize(whole(frame.alpha), height, width, dtype=dtype)
            style = [Converted(each, space) for each in self._style] if space else self._style
            for strip in self._color(style, rows, height, width, dtype, progress):
                done += len(strip)
                cover = None if alpha is None else alpha.take(done - len(strip), done)
                yield replace(frame, color=strip, alpha=cover)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"This machine has no memory for a picture of {width} x {height}. Use a smaller --scale."
            ) from error

    def enlarge_rgb8(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """H x W x 3 to sH x sW x 3 at the native scale, by the same way as every frame."""
        frame = Frame(color=rgb, alpha=None, seconds=None)
        return self.enlarge(frame, rgb.shape[0] * self.scale, rgb.shape[1] * self.scale).color

    def cost(self, height: int, width: int, *, streamed: bool = True) -> Cost:
        """What an 8-bit RGB picture of `height` x `width` input pixels would take at the native scale; not `streamed`
        where it is written from one piece.
        """
        tiles = tile_px = 0
        most = height * width * 3
        stages = [*self._style, *self._networks]
        grids = self._grids(stages, height, width)
        for stage, grid in zip(stages, grids, strict=True):
            scale, last = stage.engine.scale, stage is stages[-1]
            samples = grid.columns.length * scale * 3
            strip = samples * grid.rows.side * scale
            seams = 2 * samples * RAMP_PX * scale * 4
            kept = strip * (_AHEAD if last else 2 * 2)  # 16 bits, of which the next stage may need two strips
            most += kept + seams + stage.bytes(grid)
            tiles, tile_px = tiles + len(grid), max(tile_px, grid.tile_px)
        if not streamed:
            most += height * width * self.scale**2 * (3 + 4)  # Pillow encodes a copy with 4 bytes a pixel
        pixels = tuple(len(grid) * grid.rows.side * grid.columns.side for grid in grids[len(self._style) :])
        return Cost(tiles, tile_px, most, pixels)

    def _grids(self, stages: Sequence[_Step], height: int, width: int) -> list[Plan]:
        """The plan of every stage for a source of this size, as far as is known now."""
        grids = []
        for stage in stages:
            grids.append(stage.plan(height, width))
            height, width = height * stage.engine.scale, width * stage.engine.scale
        return grids

    def _needless(self, color: Pixels | Rows, height: int, width: int) -> bool:
        return self.scale > 1 and height <= color.shape[0] and width <= color.shape[1]

    def _needed(self, color: Pixels | Rows, height: int, width: int) -> list[Stage]:
        """The networks that a picture goes through to that size."""
        return [] if self.strength == 0 or self._needless(color, height, width) else self._networks

    def _color(
        self,
        style: Sequence[_Step],
        rows: Rows,
        height: int,
        width: int,
        dtype: Depth,
        progress: Tick | None,
    ) -> Iterator[Pixels]:
        networks, coming = self._needed(rows, height, width), list(self._foreseen.values())
        stages = [*style, *networks]
        if networks and self.strength < 1:
            if style:
                rows, coming = whole(self._through(style, rows, dtype, None, coming).take(0, rows.height)), []
            plain, done = Resize(whole(rows.take(0, rows.height)), height, width, dtype=dtype), 0
            for strip in self._sized(networks, rows, height, width, dtype, progress, coming):
                done += len(strip)
                yield mix(strip, plain.take(done - len(strip), done), self.strength)
        else:
            yield from self._sized(stages, rows, height, width, dtype, progress, coming)
        for stage in stages:
            self.effort += replace(stage.effort, tile_px=max(self.effort.tile_px, stage.effort.tile_px))
        if self._networks and self._needless(rows, height, width):
            remarks = (*self.effort.remarks, "no larger than its source: resized without a network")
            self.effort = replace(self.effort, remarks=remarks)

    def _sized(
        self,
        stages: Sequence[_Step],
        rows: Rows,
        height: int,
        width: int,
        dtype: Depth,
        progress: Tick | None,
        coming: Sequence[Rows],
    ) -> Iterator[Pixels]:
        """Through the stages, and the size asked for."""
        rows = self._through(stages, rows, dtype, progress, coming)
        if rows.shape[:2] == (height, width) and rows.dtype == dtype:
            return rows.strips()
        plain = not stages or stages[-1] not in self._networks
        kernel = Image.Resampling.BICUBIC if plain else Image.Resampling.LANCZOS
        return Resize(rows, height, width, dtype=dtype, kernel=kernel).strips()

    def _through(
        self,
        stages: Sequence[_Step],
        rows: Rows,
        dtype: Depth,
        progress: Tick | None,
        coming: Sequence[Rows],
    ) -> Rows:
        """Every stage in turn, each fed by the strips of the one before; only to the first are the next pictures known
        before it is done with this one.
        """
        counts = [(0, len(grid)) for grid in self._grids(stages, rows.height, rows.width)]

        def tick(index: int, done: int, total: int) -> None:
            counts[index] = done, total
            if progress:
                progress(*map(sum, zip(*counts, strict=True)))

        for index, stage in enumerate(stages):
            # Between networks 16 bits are kept: the second would enlarge the rounding of the first.
            kept = dtype if index + 1 == len(stages) else np.dtype(np.uint16)
            shape = (rows.height * stage.engine.scale, rows.width * stage.engine.scale, rows.shape[2])
            strips = stage.enlarge(rows, dtype=kept, tick=partial(tick, index), coming=() if index else coming)
            rows = Rows(strips, shape, kept)
        return rows


def _rows(frame: Frame) -> Rows:
    """The colour of a frame, as it enters the first network."""
    return whole(frame.color if frame.alpha is None else bleed(frame.color, frame.alpha))
