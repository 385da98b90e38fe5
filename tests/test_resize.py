"""imresize: MATLAB's weights, rounding and borders. Known values first, then Pillow, which uses the same kernel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from upscale_cli import zoo
from upscale_cli.media.resize import imresize

# Keys' cubic at distances 1.75, 1.25, 0.75, 0.25 and back. Halving widens the kernel by two, so that its eight taps lie
# at the same places and weigh half as much.
CUBIC = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 128
HALVING = CUBIC / 2


def test_halving_has_matlabs_weights() -> None:
    impulse = np.zeros((1, 32), np.float64)
    impulse[0, 15] = 1
    got = imresize(np.repeat(impulse, 2, axis=0), 1, 16)[0]
    # Output i reads inputs 2i - 3 to 2i + 4: the impulse at 15 is seen by outputs 6 to 9 with every second weight.
    assert got[6:10] == pytest.approx(HALVING[[6, 4, 2, 0]], abs=1e-7)
    assert np.count_nonzero(got) == 4


def test_doubling_has_matlabs_weights() -> None:
    impulse = np.array([[0, 0, 0, 1, 0, 0, 0]], np.float64)
    expected = [0, 0, 0, *CUBIC, 0, 0, 0]  # outputs 6 and 7 lie a quarter pixel beside input 3
    assert imresize(impulse, 2, 14)[0] == pytest.approx(expected, abs=1e-7)


def test_halving_mirrors_the_border_with_the_edge_repeated() -> None:
    ramp = np.arange(8, dtype=np.float64)[None].repeat(8, axis=0) * 10
    mirrored = np.concatenate([ramp[0, 2::-1], ramp[0], ramp[0, :-5:-1]])
    expected = [float(HALVING @ mirrored[start : start + 8]) for start in range(0, 8, 2)]
    assert imresize(ramp, 4, 4)[0] == pytest.approx(expected, abs=1e-5)


def test_8_bit_is_rounded_and_clipped() -> None:
    step = np.zeros((8, 16), np.uint8)
    step[:, 8:] = 200
    exact = [float(HALVING @ step[0, 2 * i - 3 : 2 * i + 5]) for i in range(2, 6)]
    assert min(exact) < 0  # the kernel overshoots, 8 bits do not
    got = imresize(step, 4, 8)
    assert got.dtype == np.uint8
    assert got[0].tolist() == [0, 0, *(max(0, round(value)) for value in exact), 200, 200]
    bright = imresize(255 - step, 4, 8)
    assert bright[0].tolist() == [255, 255, *(min(255, round(255 - value)) for value in exact), 55, 55]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_a_constant_stays_constant_at_any_size(
    height: int, width: int, new_height: int, new_width: int, dtype: type
) -> None:
    value = np.iinfo(dtype).max - 3
    got = imresize(np.full((height, width, 3), value, dtype), new_height, new_width)
    assert got.shape == (new_height, new_width, 3)
    assert got.dtype == dtype
    assert (got == value).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_agrees_with_pillow_away_from_the_border(spices: np.ndarray, scale: int) -> None:
    height, width = spices.shape[0] // scale, spices.shape[1] // scale
    hr = spices[: height * scale, : width * scale, 1].astype(np.float32)  # floats: neither rounds between the passes
    ours = imresize(hr, height, width)
    theirs = np.asarray(Image.fromarray(hr).resize((width, height), Image.Resampling.BICUBIC))
    assert ours[4:-4, 4:-4] == pytest.approx(theirs[4:-4, 4:-4], abs=1e-3)
    assert np.abs(ours - theirs).max() > 1e-2  # Pillow cuts the kernel off at the border, MATLAB mirrors


def test_the_axis_that_shrinks_most_goes_first(spices: np.ndarray) -> None:
    image = spices[:64, :96]
    flat = imresize(image, 16, 96)
    assert (imresize(image, 16, 48) == imresize(flat, 16, 48)).all()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_bicubic_model_is_imresize(spices: np.ndarray, scale: int) -> None:
    lr = spices[100:123, 200:231].astype(np.float32) / 255
    sr = zoo.find(f"bicubic/x{scale}").build()(torch.from_numpy(lr).permute(2, 0, 1)[None])
    expected = imresize(lr, lr.shape[0] * scale, lr.shape[1] * scale)
    assert sr[0].permute(1, 2, 0).numpy() == pytest.approx(expected, abs=2e-6)
