"""Upscaler: whatever the depth, the size, the alpha and the trouble, the picture is the one the network means."""

import numpy as np
import numpy.typing as npt
import pytest
from enlarging import DEPTHS, enlarged, noise
from nearest_engine import NearestEngine, nearest
from PIL import Image

from upscale_cli import stage
from upscale_cli.engines.interface import unit_floats
from upscale_cli.enlarge import Upscaler
from upscale_cli.errors import UsageError
from upscale_cli.media.frame import Frame


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 3), (101, 57), (128, 128)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_depth_and_channel_count_comes_out_exactly(
    size: tuple[int, int], dtype: npt.DTypeLike, channels: int
) -> None:
    color = noise(*size, channels, dtype)
    made = enlarged(Upscaler([NearestEngine(3)], tile_px=40), color).color
    assert made.dtype == dtype
    # Grey goes through the network as three equal channels: their luma is the grey again.
    np.testing.assert_array_equal(made, nearest(color, 3))


def test_a_photograph_in_tiles_and_whole_are_one(spices: npt.NDArray[np.uint8]) -> None:
    whole = Upscaler([NearestEngine()], tile_px=1000).enlarge_rgb8(spices)
    tiled = Upscaler([NearestEngine()], tile_px=97).enlarge_rgb8(spices)
    np.testing.assert_array_equal(whole, nearest(spices, 2))
    np.testing.assert_array_equal(tiled, whole)


class Folding(NearestEngine):
    """Sees blocks of 4 x 4 pixels, as a network behind a PixelUnshuffle does: each becomes its mean."""

    def infer(self, tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        count, height, width, _ = tiles.shape
        means = unit_floats(tiles).reshape(count, height // 4, 4, width // 4, 4, 3).mean((2, 4))
        return super().infer(means.repeat(4, 1).repeat(4, 2))


@pytest.mark.parametrize("size", [(61, 46), (64, 48), (3, 50)])
def test_blocks_that_a_network_folds_are_the_same_in_every_tile(
    size: tuple[int, int], spices: npt.NDArray[np.uint8]
) -> None:
    height, width = size
    color = spices[100 : 100 + height, 200 : 200 + width]
    whole = enlarged(Upscaler([Folding(multiple_of=4)], tile_px=100), color).color
    tiled = Upscaler([Folding(multiple_of=4)], tile_px=39)
    assert tiled.cost(height, width).tiles > 1
    assert np.abs(enlarged(tiled, color).color.astype(int) - whole).max() <= 1


def test_two_stages_multiply_and_keep_16_bits_between(spices: npt.NDArray[np.uint8]) -> None:
    first, second = NearestEngine(2), NearestEngine(4)
    upscaler = Upscaler([first, second], tile_px=128)
    crop = spices[:70, :90]
    seen: list[tuple[int, int]] = []
    made = upscaler.enlarge(Frame(crop), 560, 720, progress=lambda done, total: seen.append((done, total)))
    assert upscaler.scale == 8
    np.testing.assert_array_equal(made.color, nearest(crop, 8))
    assert seen == [(done, seen[0][1]) for done in range(1, seen[0][1] + 1)]
    assert seen[0][1] == upscaler.cost(70, 90).tiles == len(first.shapes) + len(second.shapes)


def test_a_16_bit_gradient_stays_smooth() -> None:
    gradient = np.arange(20_000, 20_300, dtype=np.uint16).reshape(1, -1, 1).repeat(80, 0).repeat(3, 2)
    for made in (
        enlarged(Upscaler([NearestEngine()], tile_px=64), gradient).color,
        Upscaler([NearestEngine()]).enlarge(Frame(gradient), 120, 450).color,
        Upscaler([NearestEngine()], strength=0.5).enlarge(Frame(gradient), 120, 450).color,
    ):
        row = made[made.shape[0] // 2, :, 0].astype(int)
        assert len(np.unique(row)) > 290, "values between two steps of 8 bits are gone"
        assert (np.diff(row) >= 0).all()


@pytest.mark.parametrize("dtype", DEPTHS)
def test_any_final_size_is_the_native_one_shrunk_with_antialiasing(
    spices: npt.NDArray[np.uint8], dtype: npt.DTypeLike
) -> None:
    color = spices if dtype is np.uint8 else spices.astype(np.uint16) * 257
    made = Upscaler([NearestEngine(4)]).enlarge(Frame(color), 1068, 1600).color
    planes = [Image.fromarray(nearest(color[..., i], 4).astype(np.float32)) for i in range(3)]
    expected = np.stack([plane.resize((1600, 1068), Image.Resampling.LANCZOS) for plane in planes], -1)
    if dtype is np.uint8:
        expected = Image.fromarray(nearest(spices, 4)).resize((1600, 1068), Image.Resampling.LANCZOS)
    assert np.abs(made - np.clip(expected, 0, np.iinfo(dtype).max).astype(float)).max() <= 2
    assert np.abs(made - np.clip(expected, 0, np.iinfo(dtype).max).astype(float)).mean() < 0.3


def test_no_larger_than_its_source_is_resized_without_the_network(spices: npt.NDArray[np.uint8]) -> None:
    engine = NearestEngine()
    upscaler = Upscaler([engine])
    made = upscaler.enlarge(Frame(spices), 100, 150).color
    np.testing.assert_array_equal(
        made, np.asarray(Image.fromarray(spices).resize((150, 100), Image.Resampling.BICUBIC))
    )
    assert engine.shapes == []
    assert upscaler.effort.notes == ("no larger than its source: resized without a network",)
    np.testing.assert_array_equal(upscaler.enlarge(Frame(spices), *spices.shape[:2]).color, spices)


def test_8_bits_become_16_where_asked_for(spices: npt.NDArray[np.uint8]) -> None:
    crop, alpha = spices[:60, :90], np.full((60, 90), 130, np.uint8)
    deep, deep_alpha = crop.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257
    for size, strength in (((120, 180), 1.0), ((100, 150), 0.5), ((30, 40), 1.0)):
        upscaler = Upscaler([NearestEngine()], strength=strength)
        made = upscaler.enlarge(Frame(crop, alpha), *size, depth=16)
        want = upscaler.enlarge(Frame(deep, deep_alpha), *size)
        assert made.color.dtype == np.uint16
        np.testing.assert_array_equal(made.color, want.color)
        assert made.alpha is not None
        assert want.alpha is not None
        np.testing.assert_array_equal(made.alpha, want.alpha)


def test_strength_mixes_with_bicubic(spices: npt.NDArray[np.uint8]) -> None:
    crop = spices[:100, :120]
    plain = np.asarray(Image.fromarray(crop).resize((240, 200), Image.Resampling.BICUBIC)).astype(float)
    engine = NearestEngine()
    half = Upscaler([engine], strength=0.5).enlarge_rgb8(crop)
    assert np.abs(half - (nearest(crop, 2) * 0.5 + plain * 0.5)).max() <= 1
    ran = len(engine.shapes)
    np.testing.assert_array_equal(Upscaler([engine], strength=0).enlarge_rgb8(crop), plain)
    assert len(engine.shapes) == ran


# --- alpha -------------------------------------------------------------------------------------------------------


def disc(side: int, dtype: npt.DTypeLike = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """An opaque red disc with a soft edge on transparent black."""
    greatest = np.iinfo(dtype).max
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side / 3 - np.hypot(x, y), 0, 1)
    color = np.zeros((side, side, 3), dtype)
    color[alpha > 0] = (greatest, 0, 0)
    return color, np.rint(alpha * greatest).astype(dtype)


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("size", [(120, 120), (150, 150), (40, 40)])
def test_nothing_of_the_colour_under_transparent_pixels_comes_through(size: tuple[int, int], dtype: type) -> None:
    color, alpha = disc(60, dtype)
    made = Upscaler([NearestEngine(3)], tile_px=40).enlarge(Frame(color, alpha), *size)
    assert made.alpha is not None
    seen = made.color[made.alpha > 0]
    assert (seen == (np.iinfo(dtype).max, 0, 0)).all(), "a dark fringe"
    assert 0 < (made.alpha == 0).mean() < 1
    assert made.alpha[size[0] // 2, size[1] // 2] == np.iinfo(dtype).max


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("opacity", [0, 1])
def test_wholly_opaque_and_wholly_transparent_stay_so(opacity: int, dtype: type) -> None:
    color = noise(50, 70, 3, dtype)
    alpha = np.full((50, 70), np.iinfo(dtype).max * opacity, dtype)
    for size in ((100, 140), (133, 177), (20, 30)):
        made = Upscaler([NearestEngine()]).enlarge(Frame(color, alpha), *size)
        assert made.alpha is not None
        assert (made.alpha == np.iinfo(dtype).max * opacity).all()
        np.testing.assert_array_equal(made.color, Upscaler([NearestEngine()]).enlarge(Frame(color), *size).color)


# --- choices -----------------------------------------------------------------------------------------------------


def test_automatic_tiles_follow_device_margin_and_memory() -> None:
    def tile_px(engine: NearestEngine) -> int:
        return Upscaler([engine]).cost(4000, 4000).tile_px

    assert 240 <= tile_px(NearestEngine()) <= 256
    assert tile_px(NearestEngine(device="cuda")) > 900
    assert tile_px(NearestEngine(margin=40)) > 400, "small tiles would be mostly margin"
    assert 40 <= tile_px(NearestEngine(available=2 * 64 * 64 * 1000)) <= 64
    assert tile_px(NearestEngine(margin=4, available=0)) == 24
    assert Upscaler([NearestEngine()]).cost(100, 200).tile_px == 200


def test_batches_fill_the_memory_of_an_accelerator_and_stay_single_on_a_cpu() -> None:
    color = noise(300, 300)
    quick = NearestEngine(device="cuda")
    quick.tile_px = 120
    for engine, size in (
        (NearestEngine(), 1),
        (NearestEngine(device="cuda", available=2 * 5 * 64 * 64 * 1000), 5),
        (NearestEngine(device="cuda"), 16),
        (quick, 3),
    ):
        np.testing.assert_array_equal(enlarged(Upscaler([engine], tile_px=64), color).color, nearest(color, 2))
        assert max(shape[0] for shape in engine.shapes) == size


def test_the_cost_of_a_picture_is_known_without_running_it() -> None:
    engine = NearestEngine()
    upscaler = Upscaler([engine])
    cost = upscaler.cost(400, 700)
    assert engine.shapes == []
    enlarged(upscaler, noise(400, 700))
    assert cost.tiles == len(engine.shapes)
    assert cost.tile_px == upscaler.effort.tile_px
    assert upscaler.cost(400, 700, streamed=False).bytes == cost.bytes + 400 * 700 * 4 * 7


def test_the_cost_of_a_streamed_picture_grows_with_its_source_alone() -> None:
    cost = Upscaler([NearestEngine(4)]).cost
    small, large = cost(5000, 10_000), cost(10_000, 10_000)
    assert large.bytes - small.bytes == pytest.approx(5000 * 10_000 * 3, rel=0.02)
    assert large.bytes < 10_000 * 10_000 * 3 + 600_000_000


def test_an_overlap_below_the_need_is_told() -> None:
    upscaler = Upscaler([NearestEngine(margin=10)], tile_px=64, overlap_px=8)
    enlarged(upscaler, noise(100, 100))
    assert upscaler.effort.notes == ("tiles share 8 px where nearest needs 28: seams may show",)
    enlarged(upscaler, noise(50, 50))
    assert upscaler.effort.notes == ()
    color = noise(100, 100)
    hard = Upscaler([NearestEngine(margin=10)], tile_px=30, overlap_px=0)
    np.testing.assert_array_equal(enlarged(hard, color).color, nearest(color, 2))


@pytest.mark.parametrize(
    "settings", [{"strength": 1.5}, {"strength": -0.1}, {"tile_px": -1}, {"overlap_px": -2}, {"batch": 0}]
)
def test_settings_that_mean_nothing_are_refused(settings: dict) -> None:
    with pytest.raises(UsageError, match="means nothing"):
        Upscaler([NearestEngine()], **settings)
    with pytest.raises(UsageError, match="at least one"):
        Upscaler([])


def test_strips_of_wide_pictures_are_less_high(monkeypatch: pytest.MonkeyPatch, spices: npt.NDArray[np.uint8]) -> None:
    """Three of them are in memory: of 12,000 pixels x4 in tiles of 1024 they would be half a gigabyte each."""

    def upscaler(tile_px: int = 0) -> tuple[NearestEngine, Upscaler]:
        engine = NearestEngine(4)
        engine.tile_px = 1024
        return engine, Upscaler([engine], tile_px=tile_px)

    assert upscaler()[1].cost(8000, 12_000).bytes < 8000 * 12_000 * 3 + 5 * (256 << 20)
    assert upscaler(1024)[1].cost(8000, 12_000).bytes > 8000 * 12_000 * 3 + 8 * (256 << 20), "as was asked for"
    monkeypatch.setattr(stage, "_STRIP_BYTES", 250 * 3 * 16 * spices.shape[1])
    engine, low = upscaler()
    np.testing.assert_array_equal(low.enlarge_rgb8(spices), nearest(spices, 4))
    assert {shape[1:3] for shape in engine.shapes} == {(224, spices.shape[1])}
