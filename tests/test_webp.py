"""A WebP that keeps its pixels exactly becomes one that does; a lossy one becomes a lossy one."""

import io
from pathlib import Path

import numpy as np
import pytest
from command import place, upscale  # noqa: F401  one is a fixture
from nearest_engine import nearest
from pictures import display_p3, photo, ramp
from PIL import Image

from upscale_cli.media.image import probe
from upscale_cli.media.sniff import is_lossless_webp


def save(path: Path, *, alpha: bool = False, frames: int = 1, **options: object) -> np.ndarray:
    pixels = np.dstack([photo(), ramp()]) if alpha else photo()
    images = [Image.fromarray(np.roll(pixels, 5 * number, axis=0)) for number in range(frames)]
    images[0].save(path, save_all=frames > 1, append_images=images[1:], **options)
    return pixels


@pytest.mark.parametrize(
    "options",
    [{}, {"icc_profile": display_p3()}, {"alpha": True}, {"frames": 2}, {"frames": 2, "icc_profile": b"odd"}],
    ids=["plain", "profile", "alpha", "animation", "animation and profile"],
)
def test_it_stays_what_it_is(options: dict, tmp_path: Path) -> None:
    pixels = save(Path("exact.webp"), lossless=True, exact=True, **options)
    save(Path("lossy.webp"), quality=90, **options)
    assert (probe(Path("exact.webp")).lossless, probe(Path("lossy.webp")).lossless) == (True, False)
    assert upscale("exact.webp", "lossy.webp").exit_code == 0
    assert (probe(Path("exact_x2.webp")).lossless, probe(Path("lossy_x2.webp")).lossless) == (True, False)
    with Image.open("exact_x2.webp") as image:
        found = np.asarray(image.convert("RGB"))
    if not options.get("alpha"):  # else colours by the edges of transparency are not repeated
        assert np.array_equal(found, nearest(pixels, 2))


def test_quality_and_format_have_the_last_word(tmp_path: Path) -> None:
    save(Path("exact.webp"), lossless=True)
    assert upscale("exact.webp", "-q", "80").exit_code == 0
    assert not probe(Path("exact_x2.webp")).lossless
    sizes = []
    for words in ([], ["-q", "95"]):
        assert upscale("exact.webp", "-f", "jpg", "--overwrite", *words).exit_code == 0
        sizes.append(Path("exact_x2.jpg").stat().st_size)
    assert sizes[0] == sizes[1], "95 is usual for JPEG, not 100"


@pytest.mark.parametrize("tail", [b"", b"VP", b"JUNK\xff\xff\xff\xff", b"JUNK\0\0\0\0" * 1000])
def test_damaged_chunks_are_not_searched_for_ever(tail: bytes) -> None:
    file = io.BytesIO(b"RIFF\0\0\0\0WEBP" + tail)
    assert not is_lossless_webp(file)
    assert file.read() == b"" or len(tail) > 1000
