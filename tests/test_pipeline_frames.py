"""What goes through process(): depth, transparency, animations, pages and metadata, from file to file."""

from pathlib import Path

import numpy as np
import pytest
from nearest_engine import NearestEngine, nearest
from photo_jobs import job, out_folder, photo_sources, pixels, write_picture  # noqa: F401  two are fixtures
from PIL import Image, ImageCms

from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.media.metadata import Metadata
from upscale_cli.pipeline import Event, PictureOptions, Upscaler, process


def test_grey_stays_grey_and_16_bits_stay_16(sources: list[Path], out: Path) -> None:
    photo = pixels(sources[0])
    grey = photo[..., :1]
    deep = photo.astype(np.uint16) * 256 + 77
    jobs = [
        job(write_picture(out / "grey-in.png", [Frame(grey)], "PNG"), out / "grey.png"),
        job(write_picture(out / "deep-in.png", [Frame(deep)], "PNG"), out / "deep.png"),
        job(write_picture(out / "tiff-in.tif", [Frame(deep)], "TIFF"), out / "tiff.tif", format="TIFF"),
    ]
    assert [result.error for result in process(jobs, Upscaler([NearestEngine()], tile_px=64))] == [None] * 3
    np.testing.assert_array_equal(pixels(out / "grey.png"), nearest(grey, 2))
    np.testing.assert_array_equal(pixels(out / "deep.png"), nearest(deep, 2))
    np.testing.assert_array_equal(pixels(out / "tiff.tif"), nearest(deep, 2))


def test_depth_16_keeps_what_lies_between_the_steps_of_8_bits(sources: list[Path], out: Path) -> None:
    options = PictureOptions(depth="16")
    result = next(process([job(sources[0], out / "a.png", 1.5)], Upscaler([NearestEngine()]), options))
    assert result.error is None
    made = pixels(out / "a.png")
    assert made.dtype == np.uint16
    assert (made % 257 != 0).mean() > 0.5


def test_transparency_goes_through_without_a_fringe(out: Path) -> None:
    y, x = np.mgrid[:90, :90] - 44.5
    alpha = (np.clip(30 - np.hypot(x, y), 0, 1) * 255).astype(np.uint8)
    color = np.zeros((90, 90, 3), np.uint8)
    color[alpha > 0] = (255, 0, 0)
    source = write_picture(out / "disc.png", [Frame(color, alpha)], "PNG")
    assert next(process([job(source, out / "a.png", 2.7)], Upscaler([NearestEngine(3)], tile_px=40))).error is None
    with Image.open(out / "a.png") as image:
        assert image.size == (243, 243)
        made = np.asarray(image)
    assert (made[made[..., 3] > 0][:, :3] == (255, 0, 0)).all()
    assert made[121, 121, 3] == 255
    assert made[0, 0, 3] == 0


def test_every_frame_of_an_animation_is_enlarged_with_its_time(sources: list[Path], out: Path) -> None:
    frames = [Frame(pixels(path), seconds=0.1 * (index + 1)) for index, path in enumerate(sources)]
    source = write_picture(out / "in.png", frames, "PNG", Metadata(loop=0))
    events: list[Event] = []
    result = next(process([job(source, out / "out.png")], Upscaler([NearestEngine()]), progress=events.append))
    assert (result.error, result.frames) == (None, 4)
    assert result.out_pixels == 4 * 320 * 240
    with ImageSource(out / "out.png") as made:
        for before, after in zip(frames, made.frames(), strict=True):
            np.testing.assert_array_equal(after.color, nearest(before.color, 2))
            assert after.seconds == pytest.approx(before.seconds)
    assert [round(event.fraction, 3) for event in events] == [0.25, 0.5, 0.75, 1, 1]


def test_an_animation_that_breaks_in_the_middle_leaves_no_file(sources: list[Path], out: Path) -> None:
    calls: list[int] = []

    def broken(_: np.ndarray) -> bool:
        calls.append(1)
        return len(calls) > 2

    frames = [Frame(pixels(path), seconds=0.1) for path in sources]
    source = write_picture(out.parent / "in.png", frames, "PNG")
    engine = NearestEngine(broken=broken, always=True)
    first, second = process([job(source, out / "a.png"), job(sources[0], out / "b.png", 1)], Upscaler([engine]))
    assert "no usable picture" in str(first.error)
    assert first.frames == 2
    assert second.error is None
    assert [path.name for path in out.iterdir()] == ["b.png"]


def test_pages_of_different_sizes_are_enlarged_alike(sources: list[Path], out: Path) -> None:
    photo = pixels(sources[0])
    source = write_picture(out / "in.tif", [Frame(photo), Frame(photo[:50, :40])], "TIFF")
    result = next(process([job(source, out / "out.tif", format="TIFF")], Upscaler([NearestEngine()])))
    assert (result.error, result.frames) == (None, 2)
    with ImageSource(out / "out.tif") as made:
        assert [frame.color.shape for frame in made.frames()] == [(240, 320, 3), (100, 80, 3)]


def test_metadata_go_along_or_only_the_profile(photos: list[Path], out: Path) -> None:
    with Image.open(photos[0]) as image:
        exif = Image.Exif()
        exif[0x010F] = "A camera"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image.crop((0, 0, 80, 60)).save(out / "in.jpg", exif=exif, icc_profile=profile)
    for keep in (True, False):
        target = out / f"{keep}.png"
        options = PictureOptions(keep_metadata=keep)
        assert next(process([job(out / "in.jpg", target)], Upscaler([NearestEngine()]), options)).error is None
        with Image.open(target) as made:
            assert made.info["icc_profile"] == profile
            assert made.getexif().get(0x010F) == ("A camera" if keep else None)


def test_notes_of_reading_and_writing_are_in_the_result(sources: list[Path], out: Path) -> None:
    deep = pixels(sources[0]).astype(np.uint16) * 257
    source = write_picture(out / "in.png", [Frame(deep)], "PNG")
    results = list(
        process(
            [job(source, out / "a.jpg", format="JPEG"), job(source, out / "b.png", 0.5)], Upscaler([NearestEngine()])
        )
    )
    assert results[0].notes == ("JPEG holds 8 bits: reduced from 16 bits",)
    assert results[1].notes == ("no larger than its source: resized without a network",)
    assert results[1].tile_px == 0
