"""Upscaler in trouble, with no memory, NaN, black or lost tiles: the picture is the one meant, or it is said."""

import numpy as np
import numpy.typing as npt
import pytest
from enlarging import DEPTHS, enlarged, noise
from nearest_engine import NearestEngine, nearest

from upscale_cli.engines.interface import Floats, Tiles, unit_floats
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import InferenceError, OutOfMemoryError
from upscale_cli.media.frame import Frame


def test_out_of_memory_halves_the_tile_redoes_the_frame_and_is_remembered() -> None:
    color = noise(200, 300)
    engine = NearestEngine(most_pixels=70 * 70)
    upscaler = Upscaler([engine], tile_px=256)
    first = enlarged(upscaler, color)
    np.testing.assert_array_equal(first.color, nearest(color, 2))
    assert upscaler.effort.restarts == upscaler.effort.retries == 2
    assert upscaler.effort.tile_px <= 70
    assert upscaler.effort.notes == (f"out of memory 2x, went on with tiles of {upscaler.effort.tile_px} px",)
    failures = len([shape for shape in engine.shapes if shape[1] * shape[2] > 70 * 70])
    enlarged(upscaler, color)
    assert upscaler.effort.retries == 0
    assert len([shape for shape in engine.shapes if shape[1] * shape[2] > 70 * 70]) == failures


@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("fails_at", [2, 5, 8])
def test_out_of_memory_in_mid_picture_goes_on_below_what_was_handed_out(fails_at: int, multiple_of: int) -> None:
    color = noise(150, 101)
    left = [fails_at]

    def fail_once(_: np.ndarray) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OutOfMemoryError("another program took it")

    seen: list[tuple[int, int]] = []
    engine = NearestEngine(before=fail_once, multiple_of=multiple_of)
    upscaler = Upscaler([engine], tile_px=60)
    strips = list(upscaler.strips(Frame(color), 300, 202, progress=lambda done, total: seen.append((done, total))))
    np.testing.assert_array_equal(np.concatenate([strip.color for strip in strips]), nearest(color, 2))
    assert upscaler.effort.restarts == 1
    assert upscaler.effort.tile_px <= 30
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1] > seen[0][1]
    assert len(engine.shapes) == len(seen)


def test_strips_come_while_tiles_below_them_are_still_to_come(
    monkeypatch: pytest.MonkeyPatch, spices: npt.NDArray[np.uint8]
) -> None:
    """Through two networks, another size and a mixture, with alpha: each strip after the tiles it needs."""
    monkeypatch.setattr("upscale_cli.strips._BAND_PIXELS", 200_000)
    first, second = NearestEngine(2), NearestEngine(2)
    upscaler = Upscaler([first, second], tile_px=64, strength=0.7)
    alpha = np.full(spices.shape[:2], 200, np.uint8)
    ran = []
    strips = []
    for strip in upscaler.strips(Frame(spices, alpha), 1281, 1900):
        ran.append((len(first.shapes), len(second.shapes)))
        strips.append(strip)
        assert strip.width == 1900
    assert len(strips) > 5
    assert sum(strip.height for strip in strips) == 1281
    total = upscaler.cost(*spices.shape[:2]).tiles
    assert sum(ran[0]) < total / 4
    assert sum(ran[len(ran) // 2]) < total * 3 / 4
    assert sum(ran[-1]) == total
    whole = Upscaler([NearestEngine(4)], tile_px=1000, strength=0.7).enlarge(Frame(spices, alpha), 1281, 1900)
    made = np.concatenate([strip.color for strip in strips]).astype(int)
    assert np.abs(made - whole.color).max() <= 1
    assert (made != whole.color).mean() < 0.01
    assert all((strip.alpha == 200).all() for strip in strips)


def test_a_batch_is_halved_before_the_tile() -> None:
    engine = NearestEngine(device="cuda", most_pixels=3 * 64 * 64)
    upscaler = Upscaler([engine], tile_px=64, batch=8)
    color = noise(200, 200)
    np.testing.assert_array_equal(enlarged(upscaler, color).color, nearest(color, 2))
    assert [shape[0] for shape in engine.shapes[:3]] == [8, 4, 2]
    assert upscaler.effort.tile_px > 32


def test_no_memory_even_for_the_smallest_tile_names_the_way_out() -> None:
    upscaler = Upscaler([NearestEngine(most_pixels=10)], tile_px=256)
    with pytest.raises(
        InferenceError, match=r"even for a tile of 24 px\. Close other programs, choose a smaller --model"
    ):
        enlarged(upscaler, noise(200, 200))


def test_no_memory_for_the_picture_itself_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    color = noise(20, 20)
    monkeypatch.setattr("upscale_cli.tiles.np.empty", no_room)
    with pytest.raises(OutOfMemoryError, match="no memory for a picture of 40 x 40"):
        enlarged(Upscaler([NearestEngine()]), color)


def bright_corner(tiles: np.ndarray) -> bool:
    return bool(tiles[:, 0, 0].min() == 1)


@pytest.mark.parametrize("trouble", ["broken", "black"])
def test_a_broken_tile_is_redone_in_fp32_and_reported(trouble: str) -> None:
    color = noise(100, 100)
    color[0, 0] = 255
    engine = NearestEngine(precision="bf16", **{trouble: bright_corner})
    upscaler = Upscaler([engine], tile_px=60)
    for _ in range(2):
        np.testing.assert_array_equal(enlarged(upscaler, color).color, nearest(color, 2))
        assert upscaler.effort.redone == upscaler.effort.retries == 1
        assert upscaler.effort.precision == "bf16"
        assert upscaler.effort.notes == ("1 tile redone in fp32: NaN or black in bf16",)
    assert len(engine.made) == 1, "the fp32 twin is made once"


@pytest.mark.parametrize("trouble", ["broken", "black"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_broken_in_fp32_too_is_an_error(trouble: str, precision: str) -> None:
    engine = NearestEngine(precision=precision, always=True, **{trouble: lambda _: True})
    with pytest.raises(InferenceError, match="no usable picture: NaN or a black tile, in fp32 too"):
        enlarged(Upscaler([engine]), noise(40, 40))


def test_what_is_black_may_stay_black() -> None:
    night = np.zeros((64, 64, 3), np.uint8)
    night[5, 5] = 40
    upscaler = Upscaler([NearestEngine(precision="bf16")], tile_px=40)
    np.testing.assert_array_equal(enlarged(upscaler, night).color, nearest(night, 2))
    assert upscaler.effort.retries == 0


@pytest.mark.parametrize("depth", DEPTHS)
def test_tiles_that_come_out_as_another_picture_are_told(depth: type) -> None:
    class Losing(NearestEngine):
        """Makes grey of every tile that has a bright corner."""

        def infer(self, tiles: Tiles) -> Floats:
            enlarged = super().infer(tiles)
            if bright_corner(unit_floats(tiles)):
                enlarged[:, :128, :128] = 0.5
            return enlarged

    color = (noise(200, 200) // 8).astype(depth) * (257 if depth is np.uint16 else 1)
    color[0, 0] = np.iinfo(depth).max
    sound, losing = Upscaler([NearestEngine()], tile_px=100), Upscaler([Losing()], tile_px=100)
    for upscaler, notes in (
        (sound, ()),
        (losing, ("1 of 9 tiles came out as another picture: look at it, and choose another --model",)),
    ):
        upscaler.enlarge(Frame(color, None), 400, 400)
        assert upscaler.effort.notes == notes


def test_a_wrong_scale_is_an_error() -> None:
    engine = NearestEngine(2)
    upscaler = Upscaler([engine])
    engine.infer = NearestEngine(3).infer  # type: ignore[method-assign]
    with pytest.raises(InferenceError, match="Its weights do not fit"):
        enlarged(upscaler, noise(20, 20))
