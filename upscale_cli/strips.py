"""Pictures that come by strips from top to bottom: rows at hand, another size, mixtures. Knows no network, no file."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from upscale_cli.media.frame import Frame
from upscale_cli.media.pixels import to_depth
from upscale_cli.tiles import Depth, Pixels

_BAND_PIXELS = 4_000_000  # resized at a time: floats and planes of a band are many times its integers


class Rows:
    """A picture, H x W x C or H x W, of which only the rows between those let go and those asked for are in memory."""

    def __init__(self, strips: Iterable[Pixels], shape: tuple[int, ...], dtype: Depth) -> None:
        """`strips` make up a picture of that shape and type, and are taken one by one as rows are asked for."""
        self.shape = shape
        self.height, self.width = shape[:2]
        self.dtype = dtype
        self._strips = iter(strips)
        self._held: deque[tuple[int, Pixels]] = deque()
        self._end = 0

    def strips(self) -> Iterator[Pixels]:
        """The strips themselves, where no row of them was asked for."""
        return self._strips

    def take(self, top: int, stop: int) -> Pixels:
        """Rows `top` to `stop`: a view where they lie in one strip."""
        parts = [strip[max(0, top - first) : stop - first] for first, strip in self._between(top, stop)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def fill(self, tile: Pixels, top: int, left: int) -> None:
        """Copy what lies at `top`, `left` into a tile, grey into all its channels.

        Beyond the picture its last row and column go on.
        """
        height, width = min(len(tile), self.height - top), min(tile.shape[1], self.width - left)
        for first, strip in self._between(top, top + height):
            part = strip[max(0, top - first) : top + height - first, left : left + width]
            at = max(0, first - top)
            tile[at : at + len(part), :width] = part
        tile[height:, :width] = tile[height - 1, :width]
        tile[:, width:] = tile[:, width - 1 : width]

    def let_go(self, before: int) -> None:
        """No row before this one will be asked for."""
        while self._held and self._held[0][0] + len(self._held[0][1]) <= before:
            self._held.popleft()

    def _between(self, top: int, stop: int) -> Iterator[tuple[int, Pixels]]:
        while self._end < stop:
            strip = next(self._strips)
            self._held.append((self._end, strip))
            self._end += len(strip)
        return ((first, strip) for first, strip in self._held if first < stop and first + len(strip) > top)


def whole(picture: Pixels) -> Rows:
    """A picture that is in memory."""
    return Rows([picture], picture.shape, picture.dtype)


class Resize:
    """A picture at another size, antialiased when shrinking, by Pillow: any of its rows, to be asked for downwards."""

    def __init__(
        self,
        source: Rows,
        height: int,
        width: int,
        *,
        dtype: Depth,
        kernel: Image.Resampling = Image.Resampling.BICUBIC,
    ) -> None:
        """`dtype` is uint8, or uint16: that of the source or the wider one."""
        self.height = height
        self._source = source
        self._width = width
        self._dtype = dtype
        self._kernel = kernel
        self._factor = source.height / height
        self._reach = math.ceil(3 * max(self._factor, 1)) + 1  # the widest kernel here has 3 lobes
        self._step = max(1, int(_BAND_PIXELS / max(width, source.width * self._factor)))

    def strips(self) -> Iterator[Pixels]:
        """The whole of it."""
        for top in range(0, self.height, self._step):
            yield self._band(top, min(self.height, top + self._step))

    def take(self, top: int, stop: int) -> Pixels:
        """Rows `top` to `stop`, none of which may come before those of the last call."""
        firsts = range(top, stop, self._step)
        if len(firsts) == 1:
            return self._band(top, stop)
        target: Pixels | None = None
        for first in firsts:
            band = self._band(first, min(stop, first + self._step))
            if target is None:
                target = np.empty((stop - top, *band.shape[1:]), self._dtype)
            target[first - top : first - top + len(band)] = band
        assert target is not None
        return target

    def _band(self, top: int, stop: int) -> Pixels:
        source, upper, lower = self._source, top * self._factor, stop * self._factor
        first = max(0, math.floor(upper) - self._reach)
        last = min(source.height, math.ceil(lower) + self._reach)
        pixels = to_depth(source.take(first, last), self._dtype.itemsize * 8)
        source.let_go(first)
        box = (0, upper - first, source.width, min(lower - first, last - first))
        return _resize_planes(pixels, (self._width, stop - top), self._kernel, box)


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


def mix(first: Pixels, second: Pixels, share: float) -> Pixels:
    """`share` of the first and the rest of the second, rounded, same shape and depth."""
    mixed = np.empty_like(first)
    cv2.addWeighted(first, share, second, 1 - share, 0, mixed)
    return mixed


def halves(before: Pixels, strips: Iterable[Frame], height: int, width: int) -> Iterator[Frame]:
    """The strips of a picture of `height` x `width` with their left half as plain interpolation makes it of `before`,
    and a white line between.
    """
    plain, done, middle, line = None, 0, width // 2, max(1, width // 640)
    for strip in strips:
        plain = plain or Resize(whole(before), height, width, dtype=strip.color.dtype)
        color, done = strip.color.copy(), done + strip.height
        color[:, :middle] = plain.take(done - strip.height, done)[:, :middle]
        color[:, middle - line : middle + line] = np.iinfo(color.dtype).max
        yield replace(strip, color=color)


def bleed(color: Pixels, alpha: Pixels) -> Pixels:
    """Colour with that of the nearest visible pixel under every fully transparent one; visible pixels stay.

    What stands there is mostly black, and a network or a resize would draw it into the edge. The nearest may be
    anywhere, so this needs the whole picture.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return color
    nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    # A label stands for one visible pixel; that pixel carries it itself.
    palette = np.empty((int(nearest.max()) + 1, color.shape[2]), color.dtype)
    filled = color.copy()
    for row, (labels, clear) in enumerate(zip(nearest, hidden, strict=True)):  # by rows: no more whole pictures
        palette[labels[~clear]] = color[row, ~clear]
    for row, (labels, clear) in enumerate(zip(nearest, hidden, strict=True)):
        filled[row, clear] = palette[labels[clear]]
    return filled
