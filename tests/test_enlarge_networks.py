"""Upscaler over networks that see the whole picture, and over networks that keep its size."""

import numpy as np
import numpy.typing as npt
import pytest
from nearest_engine import NearestEngine, nearest
from PIL import Image

from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import InferenceError
from upscale_cli.media.frame import Frame


def test_a_network_that_must_see_the_whole_picture_is_given_it(spices: npt.NDArray[np.uint8]) -> None:
    engine = NearestEngine(tileable=False)
    upscaler = Upscaler([engine])
    np.testing.assert_array_equal(upscaler.enlarge_rgb8(spices), nearest(spices, 2))
    assert engine.shapes == [(1, *spices.shape)]
    assert upscaler.effort.notes == ()
    cost = upscaler.cost(*spices.shape[:2])
    assert (cost.tiles, cost.tile_px) == (1, 640)
    assert cost.bytes > 427 * 640 * 1000


def test_tiles_asked_for_in_vain_are_told(spices: npt.NDArray[np.uint8]) -> None:
    upscaler = Upscaler([NearestEngine(tileable=False)], tile_px=100, overlap_px=0)
    np.testing.assert_array_equal(upscaler.enlarge_rgb8(spices), nearest(spices, 2))
    assert upscaler.effort.notes == ("nearest must see the whole picture: not cut into tiles",)
    upscaler.enlarge_rgb8(spices[:90, :80])
    assert upscaler.effort.notes == ()


def test_the_stage_after_it_is_tiled_all_the_same(spices: npt.NDArray[np.uint8]) -> None:
    crop = spices[:100, :150]
    whole, tiled = NearestEngine(tileable=False), NearestEngine()
    upscaler = Upscaler([whole, tiled], tile_px=128)
    np.testing.assert_array_equal(upscaler.enlarge_rgb8(crop), nearest(crop, 4))
    assert len(whole.shapes) == 1
    assert len(tiled.shapes) > 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_whole_picture_without_memory_names_the_way_out(device: str, spices: npt.NDArray[np.uint8]) -> None:
    engine = NearestEngine(tileable=False, device=device, most_pixels=1000)
    with pytest.raises(InferenceError) as caught:
        Upscaler([engine], batch=4).enlarge_rgb8(spices)
    assert f"has no memory on {device} for 640 x 427 pixels. Make the picture smaller first" in str(caught.value)
    assert ("--device cpu" in str(caught.value)) == (device == "cuda")
    assert len(engine.shapes) == 1, "half a picture is not tried"


def test_a_machine_is_not_asked_for_memory_it_has_not(spices: npt.NDArray[np.uint8]) -> None:
    """It would promise it, and then end the program."""
    engine = NearestEngine(tileable=False, available=427 * 640 * 999)
    with pytest.raises(InferenceError, match="has no memory on cpu for 640 x 427"):
        Upscaler([engine]).enlarge_rgb8(spices)
    assert engine.shapes == []
    roomy = NearestEngine(tileable=False, available=427 * 640 * 1001)
    np.testing.assert_array_equal(Upscaler([roomy]).enlarge_rgb8(spices), nearest(spices, 2))


class Negative(NearestEngine):
    """A network that keeps the size and changes every pixel."""

    def infer(self, tiles: np.ndarray) -> np.ndarray:
        return 1 - super().infer(tiles)


def test_a_network_that_keeps_the_size_is_run(spices: npt.NDArray[np.uint8]) -> None:
    alpha = np.full(spices.shape[:2], 200, np.uint8)
    upscaler = Upscaler([Negative(1)], tile_px=200)
    made = upscaler.enlarge(Frame(spices, alpha), *spices.shape[:2])
    np.testing.assert_array_equal(made.color, 255 - spices)
    assert made.alpha is not None
    np.testing.assert_array_equal(made.alpha, alpha)
    assert upscaler.effort.notes == ()
    smaller = upscaler.enlarge(Frame(spices), 214, 320).color
    shrunk = np.asarray(Image.fromarray(255 - spices).resize((320, 214), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(smaller, shrunk)
    half = Upscaler([Negative(1)], strength=0.5).enlarge_rgb8(spices)
    assert np.abs(half.astype(int) - 127.5).max() <= 0.5


def test_what_the_first_of_two_networks_remarks_as_it_runs_is_told(spices: npt.NDArray[np.uint8]) -> None:
    def before(_: npt.NDArray[np.float32]) -> None:
        first.remark = "graphs are off"

    first = NearestEngine(before=before)
    upscaler = Upscaler([first, NearestEngine()])
    upscaler.enlarge_rgb8(spices[:40, :40])
    assert upscaler.effort.remarks == ("graphs are off",)
    upscaler.enlarge_rgb8(spices[:40, :40])
    assert upscaler.effort.remarks == ()
