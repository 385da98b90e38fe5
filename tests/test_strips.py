"""Strips: whatever the strips a picture comes in, its rows, its other sizes and its mixtures are those of the whole."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from upscale_cli.strips import Resize, Rows, bleed, mix, whole


def in_strips(picture: np.ndarray, rows: int) -> Rows:
    return Rows((picture[top : top + rows] for top in range(0, len(picture), rows)), picture.shape, picture.dtype)


def resized(picture: np.ndarray, height: int, width: int, kernel: Image.Resampling) -> np.ndarray:
    made = Resize(in_strips(picture, 50), height, width, dtype=picture.dtype, kernel=kernel).take(0, height)
    strips = Resize(whole(picture), height, width, dtype=picture.dtype, kernel=kernel).strips()
    np.testing.assert_array_equal(np.concatenate(list(strips)), made)
    return made


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 70), st.data())
def test_rows_are_those_of_the_picture_whatever_its_strips(
    height: int, width: int, rows: int, data: st.DataObject
) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    source = in_strips(picture, rows)
    top = 0
    while top < height:
        stop = data.draw(st.integers(top + 1, height))
        np.testing.assert_array_equal(source.take(top, stop), picture[top:stop])
        top = data.draw(st.integers(top, stop))
        source.let_go(top)
        if stop == height:
            break


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 70), st.sampled_from([1, 3]), st.data())
def test_a_tile_beyond_the_picture_goes_on_with_its_last_row_and_column(
    height: int, width: int, rows: int, channels: int, data: st.DataObject
) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)
    padded = np.pad(picture, ((0, 20), (0, 20), (0, 0)), mode="edge")
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tile = np.zeros(
        (data.draw(st.integers(1, height - top + 20)), data.draw(st.integers(1, width - left + 20)), 3), np.uint8
    )
    in_strips(picture, rows).fill(tile, top, left)
    np.testing.assert_array_equal(
        tile, np.broadcast_to(padded[top : top + len(tile), left : left + tile.shape[1]], tile.shape)
    )


def test_no_more_strips_are_taken_and_kept_than_are_needed() -> None:
    taken = []

    def strips() -> Iterator[np.ndarray]:
        for index in range(10):
            taken.append(index)
            yield np.full((10, 5), index, np.uint8)

    rows = Rows(strips(), (100, 5), np.uint8)
    assert taken == []
    rows.take(5, 20)
    assert taken == [0, 1]
    rows.let_go(15)
    np.testing.assert_array_equal(rows.take(15, 31)[:, 0], [1] * 5 + [2] * 10 + [3])
    assert taken == [0, 1, 2, 3]
    assert len(rows._held) == 3


@pytest.mark.parametrize(("height", "width"), [(200, 300), (1000, 1500), (17, 900), (1000, 1)])
@pytest.mark.parametrize("kernel", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_resizing_by_bands_is_resizing(
    monkeypatch: pytest.MonkeyPatch, spices: npt.NDArray[np.uint8], height: int, width: int, kernel: Image.Resampling
) -> None:
    monkeypatch.setattr("upscale_cli.strips._BAND_PIXELS", 30_000)
    whole = np.asarray(Image.fromarray(spices).resize((width, height), kernel))
    bands = resized(spices, height, width, kernel)
    assert np.abs(bands.astype(int) - whole).max() <= 1
    assert (bands != whole).mean() < 0.001
    deep = spices.astype(np.uint16) * 257
    planes = [Image.fromarray(deep[..., i].astype(np.float32)).resize((width, height), kernel) for i in range(3)]
    expected = np.stack([np.asarray(plane) for plane in planes], -1).clip(0, 65535)
    assert np.abs(resized(deep, height, width, kernel) - expected).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50, 1)])
def test_a_mixture_is_rounded_and_keeps_both_ends(shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    greatest = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, greatest + 1, shape).astype(dtype) for _ in range(2))
    made = mix(first, second, 0.3)
    assert made.dtype == dtype
    assert np.abs(made - (first * 0.3 + second * 0.7)).max() <= 0.51
    for value in (0, greatest):
        same = np.full(shape, value, dtype)
        np.testing.assert_array_equal(mix(same, same, 0.3), same)


def test_visible_pixels_keep_their_colour_and_hidden_ones_take_the_nearest(spices: npt.NDArray[np.uint8]) -> None:
    crop = spices[:80, :80]
    alpha = np.full((80, 80), 255, np.uint8)
    alpha[:, 40:] = 0
    alpha[:, 39] = 1
    filled = bleed(crop, alpha)
    np.testing.assert_array_equal(filled[:, :40], crop[:, :40])
    np.testing.assert_array_equal(filled[:, 40:], crop[:, 39:40].repeat(40, 1))
    assert bleed(crop, np.zeros_like(alpha)) is crop
