"""Tiles: the guarantees of plan() and Blend, each as a property over sizes, margins and scales."""

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upscale_cli.errors import UsageError
from upscale_cli.tiles import Blend, Plan, Window, plan, quantise, smallest_tile

Floats = npt.NDArray[np.float32]

sides = st.integers(1, 300)
margins = st.integers(0, 20)
ramps = st.integers(0, 12)
depths = st.sampled_from([np.uint8, np.uint16])
extras = st.integers(0, 120)  # pixels above the smallest tile allowed
modest = settings(max_examples=60, deadline=None)


def blended(grid: Plan, image: Floats, model, *, scale: int, dtype: npt.DTypeLike) -> np.ndarray:
    blend = Blend(grid, scale=scale, channels=image.shape[2], dtype=dtype)
    strips = [blend.add(tile, model(grid.cut(image, tile))) for tile in grid]
    return np.concatenate([strip for strip in strips if strip is not None])


def weights_of(window: Window) -> Floats:
    return np.concatenate([window.rising, np.ones(window.fade - window.full, np.float32), window.falling])


def nearest(scale: int):
    return lambda image: image.repeat(scale, 0).repeat(scale, 1)


@modest
@given(sides, sides, margins, ramps, extras)
def test_tiles_are_equal_and_cover_every_pixel(height: int, width: int, margin: int, ramp: int, extra: int) -> None:
    limit = smallest_tile(margin, ramp) + extra
    grid = plan(height, width, tile_px=limit, margin=margin, ramp=ramp)
    covered = np.zeros((height, width), int)
    for tile in grid:
        assert grid.cut(covered, tile).shape == (grid.rows.side, grid.columns.side)
        grid.cut(covered, tile)[...] += 1
    assert covered.min() >= 1
    assert grid.tile_px <= max(limit, 1)
    assert len(list(grid)) == len(grid)


@modest
@given(st.integers(1, 80), margins, ramps, extras, st.sampled_from([2, 3, 4, 16]))
def test_tiles_start_where_the_network_folds(blocks: int, margin: int, ramp: int, extra: int, multiple: int) -> None:
    length, limit = blocks * multiple, smallest_tile(margin, ramp, multiple) + extra
    axis = plan(length, multiple, tile_px=limit, margin=margin, ramp=ramp, multiple=multiple).rows
    assert axis.side <= limit
    assert axis.starts[-1] + axis.side == length
    assert all(number % multiple == 0 for number in (axis.side, *axis.starts))
    for left, right in zip(axis.starts, axis.starts[1:], strict=False):
        assert left + axis.side - right >= 2 * margin + ramp
        assert right > left


@modest
@given(sides, margins, ramps, extras)
def test_neighbours_share_their_margins_and_the_ramp(length: int, margin: int, ramp: int, extra: int) -> None:
    axis = plan(length, 1, tile_px=smallest_tile(margin, ramp) + extra, margin=margin, ramp=ramp).rows
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.side == length
    for left, right in zip(axis.starts, axis.starts[1:], strict=False):
        assert left + axis.side - right >= 2 * margin + ramp
        assert right > left


@modest
@given(sides, margins, ramps, extras, st.integers(1, 4))
def test_weights_sum_to_one_and_are_zero_in_the_margin(
    length: int, margin: int, ramp: int, extra: int, scale: int
) -> None:
    axis = plan(length, 1, tile_px=smallest_tile(margin, ramp) + extra, margin=margin, ramp=ramp).rows
    total = np.zeros(length * scale)
    for start, window in zip(axis.starts, axis.windows(scale), strict=True):
        weights = weights_of(window)
        total[window.first : window.stop] += weights
        assert weights.min() >= 0
        assert weights.max() <= 1
        assert window.first >= (start + margin) * scale or start == 0
        assert window.stop <= (start + axis.side - margin) * scale or start + axis.side == length
    np.testing.assert_allclose(total, 1, atol=2e-7)


@pytest.mark.parametrize(("length", "tile_px", "count"), [(256, 256, 1), (257, 256, 2), (3000, 256, 14), (300, 256, 2)])
def test_no_tile_is_larger_than_their_number_demands(length: int, tile_px: int, count: int) -> None:
    axis = plan(length, 1, tile_px=tile_px, margin=16).rows
    assert len(axis.starts) == count
    assert count * axis.side <= length + (count - 1) * 40 + count * 8


@modest
@given(sides, sides, margins, extras, st.integers(1, 4), depths, st.sampled_from([1, 3]))
@example(1, 1, 4, 0, 4, np.uint8, 3)
@example(1, 400, 4, 0, 2, np.uint16, 3)
@example(3, 3, 0, 0, 3, np.uint8, 1)
def test_nearest_neighbour_in_tiles_is_nearest_neighbour(
    height: int, width: int, margin: int, extra: int, scale: int, dtype: type, channels: int
) -> None:
    """At output depth exactly, for any plan: blending leaves no trace."""
    image = np.random.default_rng(height * 1000 + width).integers(0, 2**16, (height, width, channels)).astype(dtype)
    grid = plan(height, width, tile_px=smallest_tile(margin) + extra, margin=margin)
    floats = image.astype(np.float32) / np.iinfo(dtype).max
    made = blended(grid, floats, nearest(scale), scale=scale, dtype=dtype)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, nearest(scale)(image))


@pytest.mark.parametrize("length", range(30, 120))
def test_every_tile_boundary_is_invisible(length: int) -> None:
    image = np.random.default_rng(length).integers(0, 256, (length, 33, 3), np.uint8)
    grid = plan(length, 33, tile_px=32, margin=4)
    made = blended(grid, image.astype(np.float32) / 255, nearest(2), scale=2, dtype=np.uint8)
    np.testing.assert_array_equal(made, nearest(2)(image))


@modest
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 6), st.integers(0, 4), extras)
def test_tiled_equals_whole_where_the_margin_holds_the_kernel(
    height: int, width: int, radius: int, spare: int, extra: int
) -> None:
    def box(image: Floats) -> Floats:
        size = 2 * radius + 1
        return cv2.blur(image, (size, size), borderType=cv2.BORDER_REPLICATE).reshape(image.shape)

    image = np.random.default_rng(height + width).random((height, width, 3), np.float32)
    grid = plan(height, width, tile_px=smallest_tile(radius + spare) + extra, margin=radius + spare)
    total = np.zeros((height, width))
    joined = np.zeros_like(image)
    rows, columns = grid.rows.windows(1), grid.columns.windows(1)
    for tile in grid:
        down, across = rows[tile.row], columns[tile.column]
        place = np.s_[down.first : down.stop, across.first : across.stop]
        within = np.s_[down.first - tile.top : down.stop - tile.top, across.first - tile.left : across.stop - tile.left]
        weights = np.multiply.outer(weights_of(down), weights_of(across))
        joined[place] += box(grid.cut(image, tile))[within] * weights[..., None]
        total[place] += weights
    np.testing.assert_allclose(total, 1, atol=5e-7)
    np.testing.assert_allclose(joined, box(image), atol=1e-6)
    made = blended(grid, image, box, scale=1, dtype=np.uint16)
    np.testing.assert_allclose(made / 65535, box(image), atol=1e-6 + 0.5 / 65535)


def test_a_margin_below_the_kernel_shows() -> None:
    """The property above is not true of everything."""
    image = np.random.default_rng(0).random((100, 100, 3), np.float32)
    grid = plan(100, 100, tile_px=48, margin=1)

    def box(tile: Floats) -> Floats:
        return cv2.blur(tile, (15, 15), borderType=cv2.BORDER_REPLICATE)

    made = blended(grid, image, box, scale=1, dtype=np.uint16)
    assert np.abs(made / 65535 - box(image)).max() > 0.01


@modest
@given(sides, margins, ramps, extras, st.integers(1, 4))
def test_no_pixel_lies_in_three_tiles(length: int, margin: int, ramp: int, extra: int, scale: int) -> None:
    axis = plan(length, 1, tile_px=smallest_tile(margin, ramp) + extra, margin=margin, ramp=ramp).rows
    windows = axis.windows(scale)
    assert windows[0].first == windows[0].full == 0
    assert windows[-1].fade == windows[-1].stop == length * scale
    for before, after in pairwise(windows):
        assert (before.fade, before.stop) == (after.first, after.full)
        assert before.full <= before.fade <= before.stop <= after.fade


def test_strips_are_handed_out_while_later_rows_are_still_to_come() -> None:
    image = np.random.default_rng(0).random((200, 40, 3), np.float32)
    grid = plan(200, 40, tile_px=56, margin=4)
    blend = Blend(grid, scale=2, channels=3, dtype=np.uint8)
    windows, done = grid.rows.windows(2), 0
    assert len(windows) > 3
    for tile in grid:
        strip = blend.add(tile, nearest(2)(grid.cut(image, tile)))
        assert strip is not None
        assert (strip.shape, strip.dtype) == ((windows[tile.row].fade - done, 80, 3), np.uint8)
        done += len(strip)
    assert done == 400


def test_rounding_is_to_the_nearest_and_reaches_both_ends() -> None:
    for dtype in (np.uint8, np.uint16):
        greatest = np.iinfo(dtype).max
        values = np.arange(greatest + 1, dtype=np.float32).reshape(16, -1) / greatest
        target = np.zeros(values.shape, dtype)
        quantise(values, target)
        np.testing.assert_array_equal(target.ravel(), np.arange(greatest + 1))
        quantise(np.full((16, 1), 10.4 / greatest, np.float32), target[:, 3:4])
        assert (target[:, 3] == 10).all()
        assert target[0, 4] == 4, "its neighbour stays"


def test_tiles_that_are_all_margin_are_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"32 px are too small: this network needs 48 px\. Use --tile 48"):
        plan(100, 100, tile_px=32, margin=16)
    assert len(plan(30, 30, tile_px=32, margin=16)) == 1
