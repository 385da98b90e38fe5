"""One frame through one network, or several in a row: depth, grey, alpha, tile size, and what to do when one fails.

Refuses files, threads and torch: an Engine takes numpy tiles and gives numpy tiles.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from upscale_cli.engines.interface import Engine, Tiles
from upscale_cli.errors import InferenceError, NonFiniteOutputError, OutOfMemoryError, UsageError
from upscale_cli.media.frame import Frame
from upscale_cli.tiles import RAMP_PX, Blend, Floats, Pixels, Plan, Tile, plan, smallest_tile

CPU_TILE_PX = 256  # what a layer makes of it stays in the caches
ACCELERATOR_TILE_PX = 1024  # large enough to fill any device; more would only cost memory
_OVERLAP_SHARE = 6  # an automatic tile is at least 6 overlaps wide: margins then cost less than (6 / 5)^2
_MOST_BATCH = 16
_BAND_PIXELS = 4_000_000  # resizing goes by bands of this many pixels, so that it needs no second whole picture
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # BT.601, full range
_BLACK_OUT = 1 / 255
_NOT_BLACK_IN = 5 / 255

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
    """Times the picture was begun anew because the device had no memory."""
    redone: int = 0
    """Tiles that were redone in fp32."""
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
        return tuple(found)

    def __add__(self, later: "Effort") -> "Effort":
        return replace(
            later,
            restarts=self.restarts + later.restarts,
            redone=self.redone + later.redone,
            remarks=tuple(dict.fromkeys(self.remarks + later.remarks)),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a picture would take, without running anything."""

    tiles: int
    tile_px: int
    bytes: int
    """Memory at the worst moment: tiles in the network, the picture, its enlargement and one band of it."""


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
    ) -> None:
        """`tile_px` is the most a tile's side may be, 0 to have it chosen; `overlap_px` what neighbours share, None for
        all the network needs; `batch` tiles at a time, None to have it chosen from memory; `strength` in [0, 1] mixes
        the network's picture with a bicubic one. UsageError for values outside.
        """
        if not stages:
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
        """What the last frame took."""
        self._stages = [_Stage(engine, tile_px=tile_px, overlap_px=overlap_px, batch=batch) for engine in stages]

    def enlarge(self, frame: Frame, height: int, width: int, *, progress: Tick | None = None) -> Frame:
        """Network to the native scale, then an antialiased resize to `height` x `width` where that differs.

        Depth, grey and alpha stay what they are. Colour under fully transparent pixels is replaced by that of the
        nearest visible one, so no fringe comes of it. A picture no larger than its source is resized only, unless the
        network is one that does not enlarge.
        `progress` hears tiles done and tiles in all; they start anew when memory ran out.
        Raises InferenceError when no usable picture comes out, OutOfMemoryError when the machine has no room for it.
        """
        self.effort = Effort()
        try:
            color = frame.color if frame.alpha is None else bleed(frame.color, frame.alpha)
            if self.scale > 1 and height <= color.shape[0] and width <= color.shape[1]:
                self.effort = Effort(remarks=("no larger than its source: resized without a network",))
                color = resize(color, height, width)
            else:
                color = self._enlarge_color(color, height, width, progress)
            alpha = None if frame.alpha is None else resize(frame.alpha, height, width)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"This machine has no memory for a picture of {width} x {height}. Use a smaller --scale."
            ) from error
        return Frame(color=color, alpha=alpha, seconds=frame.seconds)

    def enlarge_rgb8(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """H x W x 3 to sH x sW x 3 at the native scale, by the same way as every frame."""
        frame = Frame(color=rgb, alpha=None, seconds=None)
        return self.enlarge(frame, rgb.shape[0] * self.scale, rgb.shape[1] * self.scale).color

    def cost(self, height: int, width: int) -> Cost:
        """What an 8-bit RGB picture of `height` x `width` input pixels would take at the native scale."""
        tiles = tile_px = most = 0
        for stage, grid in zip(self._stages, self._grids(height, width), strict=True):
            pixels, scale = grid.rows.length * grid.columns.length, stage.engine.scale
            band = grid.rows.side * grid.columns.length * scale**2 * 3 * 4 if len(grid) > 1 else 0
            tile = stage.engine.tile_bytes(grid.rows.side, grid.columns.side)
            most = max(most, pixels * 3 + pixels * 3 * scale**2 + band + tile * stage.batch_for(grid))
            tiles, tile_px = tiles + len(grid), max(tile_px, grid.tile_px)
        return Cost(tiles, tile_px, most)

    def _grids(self, height: int, width: int) -> list[Plan]:
        """The plan of every stage for a source of this size, as far as is known now."""
        grids = []
        for stage in self._stages:
            grids.append(stage.plan(height, width))
            height, width = height * stage.engine.scale, width * stage.engine.scale
        return grids

    def _enlarge_color(self, color: Pixels, height: int, width: int, progress: Tick | None) -> Pixels:
        if self.strength == 0:
            return resize(color, height, width)
        picture = color
        for index in range(len(self._stages)):
            # Between networks 16 bits are kept: the second would enlarge the rounding of the first.
            dtype = color.dtype if index + 1 == len(self._stages) else np.dtype(np.uint16)
            picture = self._run(index, picture, dtype, color.shape[:2], progress)
        if picture.shape[:2] != (height, width):
            picture = resize(picture, height, width, kernel=Image.Resampling.LANCZOS)
        if self.strength < 1:
            _mix(picture, color, self.strength)
        return picture

    def _run(
        self, index: int, picture: Pixels, dtype: np.dtype, source: tuple[int, ...], progress: Tick | None
    ) -> Pixels:
        """One stage over the whole picture, begun anew with smaller tiles when the device runs out of memory."""
        stage = self._stages[index]
        height, width = (side * stage.engine.scale for side in picture.shape[:2])
        while True:
            grids = self._grids(*source[:2])
            grid, total, before = grids[index], sum(map(len, grids)), sum(map(len, grids[:index]))
            try:
                redone = 0
                blend = Blend(grid, scale=stage.engine.scale, channels=picture.shape[2], dtype=dtype)
                for done, broken in stage.infer(picture, grid, blend):
                    redone += broken
                    if progress:
                        progress(before + done, total)
            except OutOfMemoryError as error:
                stage.shrink(grid, error)
                self.effort = replace(self.effort, restarts=self.effort.restarts + 1)
                continue
            tile_px = max(self.effort.tile_px, grid.tile_px)
            self.effort += Effort(
                tile_px, stage.engine.precision, stage.engine.backend, redone=redone, remarks=stage.remarks(grid)
            )
            return blend.picture[:height, :width]


class _Stage:
    """One engine, the tiles it is given, and its fp32 twin once that was needed."""

    def __init__(self, engine: Engine, *, tile_px: int, overlap_px: int | None, batch: int | None) -> None:
        needed = 2 * engine.margin + RAMP_PX
        overlap = needed if overlap_px is None else overlap_px
        self.engine = engine
        self._thin = f"tiles share {overlap} px where {engine.name} needs {needed}: seams may show" * (overlap < needed)
        self._whole = "" if engine.tileable else f"{engine.name} must see the whole picture: not cut into tiles"
        self._wanted_px = tile_px
        self._ramp = min(RAMP_PX, overlap)
        self._margin = (overlap - self._ramp) // 2
        self._smallest = smallest_tile(self._margin, self._ramp, engine.multiple_of)
        # Asked once: what a run finds free depends on what the last one left behind, and tiles must not change with it.
        self._budget = engine.available_bytes() // 2
        self._tile_px = tile_px or self._automatic_tile(overlap)
        self._batch = batch
        self._wide: Engine | None = None

    def _automatic_tile(self, overlap: int) -> int:
        """Large enough that margins cost little, small enough for the caches and the memory."""
        best = CPU_TILE_PX if self.engine.device == "cpu" else ACCELERATOR_TILE_PX
        side = max(best, _OVERLAP_SHARE * overlap)
        while side > self._smallest and self.engine.tile_bytes(side, side) > self._budget:
            side = max(self._smallest, side // 2)
        return side

    def plan(self, height: int, width: int) -> Plan:
        """The tiles of a picture of this size, with what has been learned of the memory."""
        multiple = self.engine.multiple_of
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        tile_px = self._tile_px if self.engine.tileable else max(height, width)
        return plan(height, width, tile_px=tile_px, margin=self._margin, ramp=self._ramp, multiple=multiple)

    def remarks(self, grid: Plan) -> tuple[str, ...]:
        """What is to be said of these tiles."""
        ignored = 0 < self._wanted_px < grid.tile_px
        return tuple(filter(None, (self._thin * (len(grid) > 1), self._whole * ignored)))

    def batch_for(self, grid: Plan) -> int:
        """Tiles at a time: as many as fit into the memory; one on a CPU, which gains nothing by more."""
        if self._batch is None and self.engine.device == "cpu":
            return 1
        room = self._budget // max(1, self.engine.tile_bytes(grid.rows.side, grid.columns.side))
        return max(1, min(len(grid), self._batch or min(_MOST_BATCH, room)))

    def shrink(self, grid: Plan, error: OutOfMemoryError) -> None:
        """Halve what is given to the device at a time: the batch while there is one, then the tile, for good.

        InferenceError, with `error` as its cause, when there is nothing left to halve.
        """
        batch = self.batch_for(grid)
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

    def infer(self, picture: Pixels, grid: Plan, blend: Blend) -> Iterator[tuple[int, int]]:
        """Every tile of `picture` into `blend`, a batch at a time; yields tiles done so far and tiles of it redone."""
        self._check_room(grid)
        beyond = [(0, axis.length - side) for axis, side in zip((grid.rows, grid.columns), picture.shape, strict=False)]
        if any(map(any, beyond)):
            picture = np.pad(picture, (*beyond, (0, 0)), mode="edge")
        tiles, size, done = list(grid), self.batch_for(grid), 0
        batches = (tiles[first : first + size] for first in range(0, len(tiles), size))
        for batch, lr, asked in _ahead(self.engine, ((batch, _cut(picture, grid, batch)) for batch in batches)):
            sr, redone = self._answer(lr, asked)
            for pixels, tile in zip(sr, batch, strict=True):
                blend.add(tile, pixels if picture.shape[2] == 3 else pixels @ _LUMA)
            done += len(batch)
            yield done, redone

    def _check_room(self, grid: Plan) -> None:
        """OutOfMemoryError for a whole picture that the machine cannot hold.

        A graphics card refuses; a machine lends memory it has not got, and ends the program when that is used.
        """
        engine, height, width = self.engine, grid.rows.side, grid.columns.side
        if not engine.tileable and engine.device == "cpu" and engine.tile_bytes(height, width) > 2 * self._budget:
            raise OutOfMemoryError(f"{engine.name} needs more than is free for {width} x {height} pixels.")

    def _answer(self, lr: Tiles, asked: Callable[[], Floats]) -> tuple[Floats, int]:
        """A batch that was submitted, enlarged, and how many of its tiles had to be redone in fp32."""
        try:
            return _checked(self.engine, lr, asked()), 0
        except (NonFiniteOutputError, _BlackTileError) as error:
            if self.engine.precision == "fp32":
                raise _broken(self.engine) from error
        if self._wide is None:
            self._wide = self.engine.in_precision("fp32")
        try:
            return _checked(self._wide, lr, self._wide.infer(lr)), len(lr)
        except (NonFiniteOutputError, _BlackTileError) as error:
            raise _broken(self._wide) from error


class _BlackTileError(InferenceError):
    """The network made black of something that was not."""


def _cut(picture: Pixels, grid: Plan, tiles: Sequence[Tile]) -> Pixels:
    """N x H x W x 3 of the picture; grey is repeated."""
    lr = np.empty((len(tiles), grid.rows.side, grid.columns.side, 3), picture.dtype)
    for slot, tile in zip(lr, tiles, strict=True):
        slot[:] = grid.cut(picture, tile)
    return lr


def _ahead(
    engine: Engine, batches: Iterator[tuple[Sequence[Tile], Pixels]]
) -> Iterator[tuple[Sequence[Tile], Pixels, Callable[[], Floats]]]:
    """Every batch with what waits for its enlargement, as many submitted before as the engine wants."""
    waiting: deque[tuple[Sequence[Tile], Pixels, Callable[[], Floats]]] = deque()
    for tiles, lr in batches:
        waiting.append((tiles, lr, engine.submit(lr)))
        if len(waiting) == engine.in_flight:
            yield waiting.popleft()
    yield from waiting


def _checked(engine: Engine, lr: Tiles, sr: Floats) -> Floats:
    expected = (len(lr), lr.shape[1] * engine.scale, lr.shape[2] * engine.scale, 3)
    if sr.shape != expected:
        raise InferenceError(
            f"{engine.name} gave {sr.shape} where x{engine.scale} is {expected}. Its weights do not fit."
        )
    for before, after in zip(lr, sr, strict=True):
        if after.max() < _BLACK_OUT and before.mean() > _NOT_BLACK_IN * np.iinfo(before.dtype).max:
            raise _BlackTileError(f"{engine.name} gave a black tile in {engine.precision}.")
    return sr


def _broken(engine: Engine) -> InferenceError:
    return InferenceError(
        f"{engine.name} gives no usable picture: NaN or a black tile, in fp32 too. "
        "Check its weights with `upscale models verify`, or choose another --model."
    )


def bleed(color: Pixels, alpha: Pixels) -> Pixels:
    """Colour with that of the nearest visible pixel under every fully transparent one; visible pixels stay.

    What stands there is mostly black, and a network or a resize would draw it into the edge.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return color
    nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    # A label stands for one visible pixel; that pixel carries it itself.
    palette = np.empty((int(nearest.max()) + 1, color.shape[2]), color.dtype)
    palette[nearest[~hidden]] = color[~hidden]
    filled = color.copy()
    filled[hidden] = palette[nearest[hidden]]
    return filled


def resize(pixels: Pixels, height: int, width: int, *, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """H x W (x C) integers to height x width, same depth: Pillow's resize, antialiased when shrinking."""
    target = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
    for rows, band in _bands(pixels, height, width, kernel):
        target[rows] = band
    return target


def _mix(picture: Pixels, source: Pixels, strength: float) -> None:
    """In place: `strength` of the picture and the rest of the source enlarged by bicubic."""
    for rows, band in _bands(source, picture.shape[0], picture.shape[1], Image.Resampling.BICUBIC):
        mixed = picture[rows] * np.float32(strength) + band * np.float32(1 - strength)
        picture[rows] = np.rint(mixed)


def _bands(pixels: Pixels, height: int, width: int, kernel: Image.Resampling) -> Iterator[tuple[slice, Pixels]]:
    """The resized picture from top to bottom, in bands that each read the source rows they need."""
    rows, columns = pixels.shape[:2]
    factor = rows / height
    reach = math.ceil(3 * max(factor, 1)) + 1  # the widest kernel here has 3 lobes
    step = max(1, int(_BAND_PIXELS / max(width, columns * factor)))
    for top in range(0, height, step):
        stop = min(height, top + step)
        first = max(0, math.floor(top * rows / height) - reach)
        last = min(rows, math.ceil(stop * rows / height) + reach)
        box = (0, top * rows / height - first, columns, stop * rows / height - first)
        yield slice(top, stop), _resize_planes(pixels[first:last], (width, stop - top), kernel, box)


def _resize_planes(
    pixels: Pixels, size: tuple[int, int], kernel: Image.Resampling, box: tuple[float, float, float, float]
) -> Pixels:
    if pixels.ndim == 3 and (pixels.shape[2] == 1 or pixels.dtype == np.uint16):
        # Pillow has no 16-bit colour: each channel goes alone.
        planes = (np.ascontiguousarray(pixels[..., channel]) for channel in range(pixels.shape[2]))
        return np.stack([_resize_planes(plane, size, kernel, box) for plane in planes], axis=-1)
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size, kernel, box=box))
    floats = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, kernel, box=box))
    return np.rint(floats).clip(0, np.iinfo(np.uint16).max).astype(np.uint16)
