"""Motion between frames: where things were, what was hidden, and the same in frames of another size."""

import numpy as np
import pytest

from upscale_cli.motion import Motion


def grey(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., 1])


def test_a_pan_is_found_and_undone(spices: np.ndarray) -> None:
    before, now = grey(spices[100:220, 100:260]), grey(spices[103:223, 105:265])
    motion = Motion.between(before, now)
    assert np.median(motion.flow, axis=(0, 1)) == pytest.approx((5, 3), abs=0.05)
    assert not motion.seen[:, -5:].any()  # was outside
    assert motion.seen[:-3, :-5].mean() > 0.95
    error = now.astype(float) - motion.warp(before)
    assert np.abs(error[motion.seen]).mean() < 1.5 < np.abs(now.astype(float) - before).mean() / 5


def test_what_came_out_from_behind_something_was_not_seen(spices: np.ndarray) -> None:
    ground, patch = grey(spices[200:320, 300:460]), grey(spices[20:60, 400:440])
    before, now = ground.copy(), ground.copy()
    before[40:80, 60:100] = patch
    now[40:80, 68:108] = patch
    motion = Motion.between(before, now)
    assert motion.known[45:75, 60:68].mean() < 0.4
    assert motion.known[:, 120:].mean() > 0.99


def test_frames_of_another_size_move_as_much_more(spices: np.ndarray) -> None:
    before, now = spices[100:160, 100:190], spices[102:162, 101:191]
    large = Motion.between(grey(before), grey(now)).enlarged(120, 270)
    assert large.flow.shape == (120, 270, 2)
    assert np.median(large.flow, axis=(0, 1)) == pytest.approx((3, 4), abs=0.1)
    moved = large.warp(before.repeat(2, 0).repeat(3, 1))
    error = moved[20:100, 20:220].astype(float) - now.repeat(2, 0).repeat(3, 1)[20:100, 20:220]
    assert np.abs(error).mean() < 6


def test_tiny_frames_are_taken_not_to_move() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 15, 40), np.uint8)
    motion = Motion.between(*noise)
    assert not motion.flow.any()
    assert motion.seen.all()
    assert np.array_equal(motion.warp(noise[0]), noise[0])


def test_a_border_that_is_cut_off_is_outside(spices: np.ndarray) -> None:
    plane = grey(spices[100:160, 100:180])
    motion = Motion(np.full((60, 80, 2), (4, 0), np.float32), np.ones((60, 80), np.bool_))
    inside = motion.inside(10)
    assert inside.seen.shape == (40, 60)
    assert inside.seen[:, :-4].all()
    assert not inside.seen[:, -4:].any()
    assert np.array_equal(inside.warp(plane[10:-10, 10:-10])[:, :-4], plane[10:-10, 14:-10])
