"""A film that goes on is read from the keyframe before what is missing, or from its start where that might differ."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from clips import clip, pan
from command import names, place  # noqa: F401  one is a fixture
from nearest_engine import NearestEngine
from test_video_resume import same

from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.source import VideoSource
from upscale_cli.pipeline import JobResult, Upscaler, process

COUNT, STOP, PART = 48, 34, 4
UNEVEN = [index * 512 + 37 * (index % 3) for index in range(COUNT)]


def enlarged(name: str, *, frames: int = 999, start: float = 0.0) -> JobResult:
    """By a network that fails after some frames."""
    seen = itertools.count(1)

    def before(_: object) -> None:
        if next(seen) > frames:
            raise ValueError("a power cut")

    format = {"mkv": "MATROSKA", "mp4": "MP4", "png": "PNG"}[name[-3:]]
    job = Job(next(Path().glob("in.*")), Path(name), format, 128, 192, "key")
    options = PictureOptions(video=VideoOptions(part_frames=PART, start=start))
    (result,) = process([job], Upscaler([NearestEngine(before=before)]), options)
    return result


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each walk over a film decodes."""
    counts: list[int] = []
    decode = VideoSource._decoded

    def counted(self: VideoSource, *args: object) -> Iterator[object]:
        counts.append(0)
        for picture in decode(self, *args):  # type: ignore[arg-type]
            counts[-1] += 1
            yield picture

    monkeypatch.setattr(VideoSource, "_decoded", counted)
    return counts


def resumed(suffix: str, decoded: list[int], *, start: float = 0.0) -> int:
    """Frames that are decoded to go on after a failure; the film must be the one made in one go."""
    assert enlarged(f"straight.{suffix}", start=start).error is None
    assert "a power cut" in str(enlarged(f"out.{suffix}", frames=STOP, start=start).error)
    assert len(list(Path(f".out.{suffix}.parts").glob("*.json"))) == STOP // PART
    decoded.clear()
    result = enlarged(f"out.{suffix}", start=start)
    assert (result.error, result.missing) == (None, "")
    same(Path(f"straight.{suffix}"), Path(f"out.{suffix}"))
    return sum(decoded)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", "mp4", {"g": "10"}),
        ("libx264", "mkv", {"g": "10", "x264-params": "open-gop=1"}),
        ("libx265", "mp4", {"x265-params": "keyint=10:rc-lookahead=5:bframes=2:open-gop=1:log-level=none"}),
        ("mpeg4", "mp4", {"g": "10"}),
        ("ffv1", "mkv", {}),
    ],
)
def test_only_from_the_keyframe_on_it_is_decoded(
    codec: str, suffix: str, options: dict[str, str], decoded: list[int]
) -> None:
    size = (96, 64) if codec == "libx265" else (48, 32)  # x265 breaks off on smaller ones
    clip(Path(f"in.{suffix}"), pan(COUNT, size), times=UNEVEN, codec=codec, options=options, sounds=["eng"])
    assert resumed(suffix, decoded) <= COUNT - STOP + PART + 12


def test_a_part_of_a_film_too(decoded: list[int]) -> None:
    clip(
        Path("in.mp4"),
        pan(60, (48, 32)),
        times=[index * 512 for index in range(60)],
        options={"g": "10"},
        sounds=["eng"],
    )
    assert resumed("mp4", decoded, start=0.3) <= 60 - 7 - STOP + PART + 12


def test_numbered_pictures_of_a_film_too(decoded: list[int]) -> None:
    clip(Path("in.mp4"), pan(COUNT, (48, 32)), times=UNEVEN, options={"g": "10"})
    for folder in ("straight", "out"):
        Path(folder).mkdir()
    assert enlarged("straight/%02d.png").error is None
    assert enlarged("out/%02d.png", frames=STOP).error is not None
    assert 20 < len(names("out")) <= STOP
    decoded.clear()
    assert enlarged("out/%02d.png").error is None
    assert sum(decoded) <= COUNT - 20 + 12
    for name in names("straight"):
        assert Path("straight", name).read_bytes() == Path("out", name).read_bytes()
    assert names("out") == names("straight")


@pytest.mark.parametrize("options", [{"x264-params": "interlaced=1:keyint=10"}, {"intra-refresh": "1", "g": "10"}])
def test_where_a_keyframe_does_not_say_all_it_is_decoded_from_the_start(
    options: dict[str, str], decoded: list[int]
) -> None:
    clip(Path("in.mkv"), pan(COUNT, (48, 32)), times=UNEVEN, options=options, sounds=["eng"])
    assert resumed("mkv", decoded) >= COUNT


def test_frames_without_times_are_decoded_from_the_start(decoded: list[int]) -> None:
    clip(
        Path("in.avi"),
        pan(COUNT, (48, 32)),
        times=[index * 512 for index in range(COUNT)],
        codec="mpeg4",
        sounds=["eng"],
    )
    Path("in.avi").rename("in.mkv")  # by its content it is what it was
    assert resumed("mkv", decoded) >= COUNT


def test_a_keyframe_from_which_other_frames_come_is_not_begun_with(
    decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(Path("in.mp4"), pan(COUNT, (48, 32)), times=UNEVEN, options={"g": "10"}, sounds=["eng"])
    mark = VideoSource._mark
    monkeypatch.setattr(VideoSource, "_mark", lambda *args: (found := mark(*args)) and (found[0], 1, *found[2:]))
    assert enlarged("out.mp4", frames=STOP).error is not None
    monkeypatch.setattr(VideoSource, "_mark", mark)
    assert enlarged("straight.mp4").error is None
    decoded.clear()
    assert enlarged("out.mp4").error is None
    same(Path("straight.mp4"), Path("out.mp4"))
    assert len(decoded) == 2
    assert decoded[1] == COUNT


def test_a_film_that_is_cut_off_is_as_incomplete_when_it_goes_on() -> None:
    clip(Path("in.mp4"), pan(COUNT, (48, 32)), times=UNEVEN, options={"g": "10"})
    with av.open("in.mp4") as source, av.open("fast.mp4", "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux_one(packet)
    data = Path("fast.mp4").read_bytes()
    Path("in.mp4").write_bytes(data[: int(len(data) * 0.9)])
    whole = enlarged("straight.mp4")
    assert "of its 48 frames are missing" in whole.missing
    enlarged("out.mp4", frames=STOP)
    assert enlarged("out.mp4").missing == whole.missing
