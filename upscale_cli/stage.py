"""A picture through one network, row of tiles by row of tiles: tile size, batches, and what to do when a tile fails.

Refuses files, threads and torch: an Engine takes numpy tiles and gives numpy tiles.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from upscale_cli.batches import Batches, Made
from upscale_cli.engines.interface import Engine
from upscale_cli.errors import InferenceError, OutOfMemoryError
from upscale_cli.recall import Recall
from upscale_cli.strips import Rows
from upscale_cli.tiles import RAMP_PX, Blend, Depth, Pixels, Plan, plan, smallest_tile

_OVERLAP_SHARE = 6  # an automatic tile is at least 6 overlaps wide: margins then cost less than (6 / 5)^2
_MOST_BATCH = 16
_STRIP_BYTES = 256 << 20  # of 8 bits: of a wider picture the tiles are less high, since three strips are in memory
LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # BT.601, full range

Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took to enlarge a frame, or, added up, all frames of a job."""

    tile_px: int = 0
    """Longer side of the tiles used last; 0 when no network ran."""
    precision: str = ""
    backend: str = ""
    """What ran the network."""
    restarts: int = 0
    """Times smaller tiles were begun with because the device had no memory."""
    redone: int = 0
    """Tiles that were redone in fp32."""
    astray: int = 0
    """Tiles whose enlargement is another picture."""
    tiles: int = 0
    reused: int = 0
    """Of the tiles, those that were as in an earlier frame, and not inferred."""
    remarks: tuple[str, ...] = ()

    @property
    def retries(self) -> int:
        """Restarts and redone tiles together."""
        return self.restarts + self.redone

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing the user should know."""
        found = list(self.remarks)
        if self.restarts:
            found.append(f"out of memory {self.restarts}x, went on with tiles of {self.tile_px} px")
        if self.redone:
            found.append(
                f"{self.redone} tile{'s' * (self.redone > 1)} redone in fp32: NaN or black in {self.precision}"
            )
        if self.astray:
            found.append(
                f"{self.astray:,} of {self.tiles:,} tile{'s' * (self.tiles > 1)} came out as another picture: look at "
                "it, and choose another --model"
            )
        if self.reused:
            found.append(f"{self.reused:,} of {self.tiles:,} tiles as in an earlier frame: inferred once")
        return tuple(found)

    def with_tile(self, made: Made) -> "Effort":
        """One more of the frame at hand."""
        return replace(
            self,
            tiles=self.tiles + 1,
            reused=self.reused + made.reused,
            redone=self.redone + made.redone,
            astray=self.astray + made.astray,
        )

    def __add__(self, later: "Effort") -> "Effort":
        return replace(
            later,
            restarts=self.restarts + later.restarts,
            redone=self.redone + later.redone,
            astray=self.astray + later.astray,
            tiles=self.tiles + later.tiles,
            reused=self.reused + later.reused,
            remarks=tuple(dict.fromkeys(self.remarks + later.remarks)),
        )


class Stage:
    """One engine, the tiles it is given, and its fp32 twin once that was needed. Remembers what memory taught it."""

    def __init__(self, engine: Engine, *, tile_px: int, overlap_px: int | None, batch: int | None) -> None:
        needed = 2 * engine.margin + RAMP_PX
        overlap = needed if overlap_px is None else overlap_px
        self.engine = engine
        self.effort = Effort()
        """What the last picture took, so far."""
        self._thin = f"tiles share {overlap} px where {engine.name} needs {needed}: seams may show" * (overlap < needed)
        self._whole = "" if engine.tileable else f"{engine.name} must see the whole picture: not cut into tiles"
        self._wanted_px = tile_px
        self._ramp = min(RAMP_PX, overlap)
        self._margin = (overlap - self._ramp) // 2
        self._smallest = smallest_tile(self._margin, self._ramp, engine.multiple_of)
        # Asked once: what a run finds free depends on what the last one left behind, and tiles must not change with it.
        self._budget = engine.available_bytes() // 2
        self._tile_px = tile_px or self._automatic_tile(overlap)
        self._fine_px = max(self._smallest, _OVERLAP_SHARE * overlap)
        self._most_px: int | None = None
        self._batch = batch
        self._recall: Recall | None = None
        self._batches: Batches | None = None
        self._twin: Engine | None = None
        self._heard = {"", engine.remark}

    def begin(self, static: float | None) -> None:
        """What comes now has nothing to do with what came before. Tiles that change by no more than `static` levels of
        255 from one picture to the next are inferred once; None keeps nothing of any.
        """
        self._recall = None if static is None else Recall(static)
        self._batches = None
        # Large tiles are the fastest, but something moves in every one.
        self._most_px = self._fine_px if static and not self._wanted_px else None

    def _automatic_tile(self, overlap: int) -> int:
        """Large enough that margins cost little, small enough for the caches and the memory."""
        side = max(self.engine.tile_px, _OVERLAP_SHARE * overlap)
        while side > self._smallest and self.engine.tile_bytes(side, side) > self._budget:
            side = max(self._smallest, side // 2)
        return side

    def plan(self, height: int, width: int) -> Plan:
        """The tiles of a picture of this size, with what has been learned of the memory."""
        multiple = self.engine.multiple_of
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        tile_px = min(self._tile_px, self._most_px or self._tile_px) if self.engine.tileable else max(height, width)
        rows_px = None
        if self.engine.tileable and not self._wanted_px:
            rows_px = max(self._fine_px, _STRIP_BYTES // (3 * self.engine.scale**2 * width))
        return plan(
            height,
            width,
            tile_px=tile_px,
            margin=self._margin,
            ramp=self._ramp,
            multiple=multiple,
            rows_px=rows_px,
        )

    def _remarks(self, grid: Plan) -> tuple[str, ...]:
        """What is to be said of these tiles."""
        ignored = 0 < self._wanted_px < grid.tile_px
        return tuple(filter(None, (self._thin * (len(grid) > 1), self._whole * ignored)))

    def _news(self) -> tuple[str, ...]:
        """What the engines have come to remark as they ran, said once."""
        found = {engine.remark for engine in (self.engine, self._twin) if engine} - self._heard
        self._heard |= found
        return tuple(sorted(found))

    def ahead(self, height: int, width: int) -> int:
        """How many pictures of this size must be known to come, for no batch to be less than full and none late."""
        grid = self.plan(height, width)
        most = self._most(grid)
        if most == 1 and self.engine.device == "cpu" and len(grid) >= self.engine.in_flight:
            return 0  # its own tiles keep a processor busy
        return -(-(most * self.engine.in_flight - 1) // len(grid))

    def batch_for(self, grid: Plan) -> int:
        """Tiles of one picture at a time."""
        return min(len(grid), self._most(grid))

    def _most(self, grid: Plan) -> int:
        """Tiles at a time: as many as fit into the memory and are no more than one of the size the engine is fastest
        with; one on a CPU, which gains nothing by more.
        """
        if self._batch is None and self.engine.device == "cpu":
            return 1
        room = self._budget // max(1, self.engine.tile_bytes(grid.rows.side, grid.columns.side))
        filled = self.engine.tile_px**2 // (grid.rows.side * grid.columns.side)
        return max(1, self._batch or min(_MOST_BATCH, room, filled))

    def bytes(self, grid: Plan) -> int:
        """Memory of the tiles that are in the engine at a time."""
        return self.engine.tile_bytes(grid.rows.side, grid.columns.side) * self.batch_for(grid)

    def _shrink(self, grid: Plan, batch: int, error: OutOfMemoryError) -> None:
        """Halve what is given to the device at a time: the batch while there is one, then the tile, for good.

        InferenceError, with `error` as its cause, when there is nothing left to halve.
        """
        if batch > 1:
            self._batch = batch // 2
            return
        if not self.engine.tileable:
            elsewhere = "" if self.engine.device == "cpu" else "use --device cpu, "
            raise InferenceError(
                f"{self.engine.name} must see the whole picture and has no memory on {self.engine.device} for "
                f"{grid.columns.length} x {grid.rows.length} pixels. Make the picture smaller first "
                f"(`-m lanczos -s 0.5`), {elsewhere}or choose another --model."
            ) from error
        if grid.tile_px <= self._smallest:
            raise InferenceError(
                f"{self.engine.name} has no memory on {self.engine.device} even for a tile of {grid.tile_px} px. "
                "Close other programs, choose a smaller --model, or use --device cpu."
            ) from error
        self._batch = 1
        self._tile_px = max(self._smallest, grid.tile_px // 2)

    def enlarge(self, source: Rows, *, dtype: Depth, tick: Tick, coming: Sequence[Rows] = ()) -> Iterator[Pixels]:
        """The network's picture of `source`, H x W x 3 or 1 (grey), strip by strip: sH x sW x as many in all.

        Tiles of those that are `coming`, as many as `ahead` says, go along where there is room, and wait in here until
        the same Rows are the `source`. Out of memory in mid-picture, it goes on with smaller tiles from the first row
        that was not handed out: what is left is a picture of its own, which begins a margin above. `tick` hears tiles
        done and tiles in all; after that, those in all are more. Raises InferenceError when no usable picture comes
        out.
        """
        scale, channels, done, ticks = self.engine.scale, source.shape[2], 0, 0
        height, width = source.height * scale, source.width * scale
        engine = self._wide() if self.engine.coarse and dtype == np.uint16 else self.engine
        self.effort = Effort(precision=engine.precision, backend=engine.backend)
        while done < height:
            top = self._first_needed(done)
            grid = self.plan(source.height - top, source.width)
            self.effort = replace(self.effort, tile_px=grid.tile_px, remarks=self._remarks(grid))
            blend, made, begun = Blend(grid, scale=scale, channels=channels, dtype=dtype), top * scale, ticks
            try:
                for count, each in enumerate(self._tiles(engine, source, grid, top, coming), 1):
                    strip = blend.add(each.tile, each.pixels if channels == 3 else each.pixels @ LUMA)
                    self.effort = self.effort.with_tile(each)
                    if each.last or count == len(grid):
                        ticks = begun + count
                        tick(ticks, begun + len(grid))
                    if strip is not None:
                        strip = strip[done - made : height - made, :width]
                        done = made = done + len(strip)
                        source.let_go(self._first_needed(done))
                        if done == height:  # before the last strip: who has that may not come back
                            self._end()
                        yield strip
            except OutOfMemoryError as error:
                batch = self._batches.size if self._batches else 1
                self._drop()
                self._shrink(grid, batch, error)
                self.effort = replace(self.effort, restarts=self.effort.restarts + 1)
            except BaseException:
                if done < height:
                    self._drop()
                raise

    def _first_needed(self, done: int) -> int:
        """The first row of the source needed for what comes after `done` rows of the enlargement."""
        multiple = self.engine.multiple_of
        return max(0, done // self.engine.scale - self._margin) // multiple * multiple

    def _tiles(self, engine: Engine, source: Rows, grid: Plan, top: int, coming: Sequence[Rows]) -> Iterator[Made]:
        """Every tile of a grid that lies in the source from `top` on, enlarged."""
        kind = source.shape, source.dtype
        alike = [] if top else list(itertools.takewhile(lambda each: (each.shape, each.dtype) == kind, coming))
        batches = self._batches
        if top or batches is None or batches.engine is not engine or not batches.expects(source):
            self._check_room(grid)
            if batches:  # what is under way belongs to pictures that did not come
                self._drop()
            size = min(self._most(grid), len(grid) * (1 + len(alike)))
            batches = Batches(engine, grid, top=top, size=size, recall=self._recall, wide=self._wide)
            self._batches = batches
        return batches.tiles(source, alike)

    def _end(self) -> None:
        """Of a picture, of which the last strip is there."""
        if self._batches and self._batches.over:
            self._batches = None
        self.effort = replace(self.effort, remarks=self.effort.remarks + self._news())

    def _drop(self) -> None:
        """Forget what is under way."""
        self._batches = None
        if self._recall:
            self._recall.forget()

    def _check_room(self, grid: Plan) -> None:
        """OutOfMemoryError for a whole picture that the machine cannot hold.

        A graphics card refuses; a machine lends memory it has not got, and ends the program when that is used.
        """
        engine, height, width = self.engine, grid.rows.side, grid.columns.side
        if not engine.tileable and engine.device == "cpu" and engine.tile_bytes(height, width) > 2 * self._budget:
            raise OutOfMemoryError(f"{engine.name} needs more than is free for {width} x {height} pixels.")

    def _wide(self) -> Engine:
        """The engine's twin in fp32."""
        if self._twin is None:
            self._twin = self.engine.in_precision("fp32")
        return self._twin
