"""Encoders of graphics cards: taken where one works, named where one should and does not, and told what answers crf."""

from pathlib import Path

import av
import pytest
from clips import clip, pan
from command import names, place, upscale  # noqa: F401  one is a fixture

from upscale_cli.media.files import probe
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video import encoder, hardware
from upscale_cli.media.video.container import VideoInfo
from upscale_cli.media.video.options import VideoOptions

H264_CARDS = ("h264_nvenc", "h264_qsv", "h264_amf")
SMALL = {"times": [0, 512], "frames": pan(2, (160, 144))}


def picked(source: Path, **options: object) -> tuple[str, tuple[str, ...]]:
    """Encoder and notes for a film twice the size."""
    asked = PictureOptions(video=VideoOptions(**options))  # type: ignore[arg-type]
    info = probe(source, asked)
    assert isinstance(info, VideoInfo)
    return encoder._picked(info, Job(source, Path("out.mp4"), "MP4", info.height * 2, info.width * 2), asked)


@pytest.mark.skipif(any(map(hardware.present, hardware.FAMILIES)), reason="this machine has a graphics card")
@pytest.mark.parametrize("name", H264_CARDS)
def test_a_card_that_is_not_there_says_what_is_missing_and_leaves_nothing(name: str) -> None:
    clip(Path("in.mp4"), **SMALL)  # type: ignore[arg-type]
    result = upscale("in.mp4", "-o", "out.mp4", "--codec", name)
    assert result.exit_code in (1, 2)
    assert f"--codec {name} does not work here: " in result.stderr
    assert any(word in result.stderr for word in ("libcuda", "MFX", "libamfrt")), result.stderr
    assert names(".") == ["in.mp4"]


def test_a_card_whose_driver_fails_gives_way_to_the_processor_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clip(Path("in.mp4"), **SMALL)  # type: ignore[arg-type]
    monkeypatch.setattr(hardware, "present", lambda family: family == "nvenc")
    if hardware.fault("h264_nvenc", "nv12", encoder._told_card("h264_nvenc")) == "":
        pytest.skip("it works here")
    result = upscale("in.mp4", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stdout.splitlines() if "h264_nvenc does not work here (" in line]
    assert len(said) == 1
    assert "encoded by the processor" in said[0]
    with av.open("out.mp4") as made:
        assert made.streams.video[0].codec_context.name == "h264"


def works(*encoders: str):  # type: ignore[no-untyped-def]
    """A probe that finds these."""
    return lambda encoder, _format, _options: "" if encoder in encoders else "no such card"


def test_the_first_card_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    source = clip(Path("in.mp4"), **SMALL)  # type: ignore[arg-type]
    monkeypatch.setattr(hardware, "present", lambda _: True)
    monkeypatch.setattr(hardware, "fault", works("h264_qsv", "h264_amf"))
    assert picked(source) == ("h264_qsv", ())
    monkeypatch.setattr(hardware, "fault", works())
    name, trouble = picked(source)
    assert name == "h264"
    assert [line.split()[0] for line in trouble] == list(H264_CARDS)


@pytest.mark.parametrize(
    "words", [{"codec": "h264"}, {"preset": "slow"}, {"encoder": ("tune=grain",)}, {"pix_fmt": "yuv420p"}]
)
def test_who_says_how_gets_the_encoder_that_knows_the_words(words: dict[str, object], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    source = clip(Path("in.mp4"), **SMALL)  # type: ignore[arg-type]
    monkeypatch.setattr(hardware, "present", lambda _: True)
    monkeypatch.setattr(hardware, "fault", works(*H264_CARDS))
    assert picked(source, **words) == ("h264", ())
    assert picked(source, crf=22.0) == ("h264_nvenc", ())


def test_what_a_card_would_lose_stays_with_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "present", lambda _: True)
    monkeypatch.setattr(hardware, "fault", works(*H264_CARDS, "hevc_nvenc"))
    colourful = clip(Path("in.mkv"), codec="ffv1", pix_fmt="yuv444p", **SMALL)  # type: ignore[arg-type]
    assert picked(colourful)[0] == "h264"
    deep = clip(Path("deep.mkv"), codec="ffv1", pix_fmt="yuv420p10le", **SMALL)  # type: ignore[arg-type]
    assert picked(deep)[0] == "hevc_nvenc"


def test_crf_becomes_what_each_card_calls_it() -> None:
    for name, option in (("h264_nvenc", "cq"), ("hevc_qsv", "global_quality"), ("av1_amf", "qvbr_quality_level")):
        codec = encoder._CODECS[name]
        told = dict(encoder._told(name, codec, VideoOptions(crf=23), encoder.PixelFormat.of("nv12"), ()))
        assert told[option] == "23"
        assert "crf" not in told


def test_an_unknown_codec_is_refused_with_those_there_are() -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", "--codec", "h265")
    assert result.exit_code == 2
    assert "--codec h265 is not known. Choose auto, h264, hevc" in result.stderr
