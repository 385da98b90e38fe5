"""What a finished film says of itself is compared with what was meant."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import clip
from command import place, upscale  # noqa: F401  one is a fixture

from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.check import differences
from upscale_cli.media.video.color import Color
from upscale_cli.media.video.container import probe
from upscale_cli.media.video.encoder import choose

SECONDS = Fraction(7680, 12800)


@pytest.mark.parametrize(("target", "format"), [("out.mp4", "MP4"), ("out.mkv", "MATROSKA")])
def test_a_difference_of_colour_shape_or_length_is_told_and_nothing_else(target: str, format: str) -> None:
    source = clip(Path("in.mp4"), color=(9, 1, 9, 1), aspect=Fraction(4, 3))
    result = upscale("in.mp4", "-o", target)
    assert "should be" not in result.stdout
    encoding = choose(probe(source, max_pixels=10**6), Job(source, Path(target), format, 96, 128), PictureOptions())
    assert list(differences(Path(target), encoding, seconds=SECONDS)) == []
    other = replace(encoding, color=Color(1, 1, 6, 1), info=replace(encoding.info, sample_aspect=Fraction(2)))
    told = list(differences(Path(target), other, seconds=SECONDS + 1))
    assert told[:2] == [
        "its colour primaries should be 1, and the file says 9",
        "its matrix should be 6, and the file says 9",
    ]
    if target == "out.mp4":
        assert told[2] == "its pixel aspect should be 2, and the file says 4/3"
        assert told[3].startswith("it should last 1.60 s, and the file says 0.")


def test_a_film_that_cannot_be_read_again_is_told() -> None:
    source = clip(Path("in.mp4"))
    encoding = choose(probe(source, max_pixels=10**6), Job(source, source, "MP4", 96, 128), PictureOptions())
    Path("bad.mp4").write_bytes(b"no film")
    assert "cannot be read again" in next(differences(Path("bad.mp4"), encoding, seconds=SECONDS))
