"""Videos with something wrong: what cannot be done is said before the first frame, what was there is kept."""

import itertools
from pathlib import Path

import av
import pytest
from clips import TICKS, clip, pan, times_of
from command import names, place, upscale  # noqa: F401  one is a fixture
from PIL import Image

from upscale_cli.media.video.parts import PartWriter


def interlaced(path: Path) -> Path:
    """Every other row a frame later, and marked so."""
    frames = pan(13)
    for before, after in itertools.pairwise(frames):
        before[1::2] = after[1::2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for pixels in frames[:12]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_interlaced_videos_are_deinterlaced_with_a_word_or_refused() -> None:
    source = interlaced(Path("in.mp4"))
    result = upscale("in.mp4", "-o", "out.mp4")
    assert "interlaced: deinterlaced by bwdif" in result.stdout
    assert times_of(Path("out.mp4")) == times_of(source)
    result = upscale("in.mp4", "-o", "other.mp4", "--no-deinterlace")
    assert result.exit_code == 1
    assert "is interlaced. Leave out --no-deinterlace" in result.stderr
    assert names(".") == ["in.mp4", "out.mp4"]


def test_a_film_without_its_index_is_refused_in_words() -> None:
    data = clip(Path("in.mp4")).read_bytes()
    Path("in.mp4").write_bytes(data[: data.index(b"moov") - 4])
    result = upscale("in.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "its index (moov) is missing" in result.stderr


def test_what_is_no_film_is_refused_with_its_reason() -> None:
    Path("in").mkdir()
    Image.fromarray(pan(1)[0]).save("in/still.png")
    Path("in/still.png").rename("in/still.mp4")
    Path("in/empty.mkv").touch()
    Path("in/noise.avi").write_bytes(b"nothing of the kind" * 100)
    Path("in/list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    result = upscale("in", "-o", "out")
    assert result.exit_code == 1
    said = {line.split(": ")[1]: line for line in result.stderr.splitlines() if line.startswith("failed: ")}
    assert "is empty (0 bytes)" in said["in/empty.mkv"]
    assert "is a still picture" in said["in/still.mp4"]
    for name in ("in/noise.avi", "in/list.mp4"):
        assert "is not a video of a known kind" in said[name]
    assert not Path("out").exists() or names("out") == []


def test_sound_alone_is_no_film() -> None:
    source = clip(Path("in.mkv"), sounds=["eng"])
    with av.open(str(source)) as both, av.open("sound.mkv", "w") as out:
        track = out.add_stream_from_template(both.streams.audio[0])
        for packet in both.demux(audio=0):
            if packet.dts is not None:
                packet.stream = track
                out.mux_one(packet)
    result = upscale("sound.mkv", "-o", "out.mkv")
    assert (result.exit_code, "holds no video stream, only audio" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("target", "words", "said"),
    [
        ("out.webm", ["--codec", "h264"], "webm holds no h264. Choose mkv, or another --codec."),
        ("out.mp4", ["--codec", "prores"], "mp4 holds no prores"),
        ("out.mp4", ["--preset", "nosuch"], "preset=nosuch"),
        ("out.mp4", ["-e", "nosuch=1"], "-e nosuch: libx264 has no such option."),
        ("out.mp4", ["-e", "nosuch"], "Write -e key=value"),
        ("out.mp4", ["--pix-fmt", "yuv410p"], "--pix-fmt yuv410p: libx264 takes yuv420p"),
        ("out.mkv", ["--codec", "ffv1", "--crf", "3"], "--crf: ffv1 has none"),
        ("out.mp4", ["--crf", "99"], "Choose a number from 0, best, to 63"),
        ("out.png", [], "is a video, which out.png is not for"),
    ],
)
def test_what_cannot_be_encoded_is_said_before_the_first_frame(target: str, words: list[str], said: str) -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", "-o", target, *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert names(".") == ["in.mp4"]


def test_a_picture_does_not_become_a_film() -> None:
    Image.fromarray(pan(1)[0]).save("in.png")
    result = upscale("in.png", "-o", "out.mp4")
    assert (result.exit_code, "is a picture, which out.mp4 is not for" in result.stderr) == (1, True)
    result = upscale("in.png", "-o", "out", "-f", "mp4")
    assert (result.exit_code, "--format mp4 is for none of these inputs" in result.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_film_that_breaks_off_is_kept_as_far_as_it_goes_and_counts_as_incomplete(kind: str) -> None:
    count = 50
    source = clip(Path(f"whole.{kind}"), pan(count, (48, 32)), times=[index * 512 for index in range(count)])
    data = source.read_bytes()
    if kind == "mp4":  # its index first, as films on the web have it
        with av.open(str(source)) as before, av.open("fast.mp4", "w", options={"movflags": "faststart"}) as out:
            film = out.add_stream_from_template(before.streams.video[0], opaque=True)
            for packet in before.demux(video=0):
                if packet.dts is not None:
                    packet.stream = film
                    out.mux_one(packet)
        data = Path("fast.mp4").read_bytes()
    Path(f"in.{kind}").write_bytes(data[: len(data) * 6 // 10])
    result = upscale(f"in.{kind}", "-o", f"out.{kind}")
    assert result.exit_code == 1
    assert f"incomplete: in.{kind}: " in result.stderr
    assert "the file is cut off" in result.stderr
    made = times_of(Path(f"out.{kind}"))
    assert 5 < len(made) < count
    assert made == times_of(source)[: len(made)]
    again = upscale(f"in.{kind}", "-o", f"out.{kind}")
    assert again.exit_code == 1, "it is done, and as incomplete as it was"
    assert f"incomplete: in.{kind}: " in again.stderr


def test_a_garbled_middle_costs_no_more_than_it_must() -> None:
    count = 50
    source = clip(Path("whole.mp4"), pan(count, (48, 32)), times=[index * 512 for index in range(count)])
    data = bytearray(source.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 300] = b"\xff" * 300
    Path("in.mp4").write_bytes(data)
    result = upscale("in.mp4", "-o", "out.mp4")
    made = times_of(Path("out.mp4"))
    assert set(made) <= set(times_of(source))
    assert len(made) >= count - 10
    assert (len(made) == count) or (result.exit_code == 1 and "cannot be decoded" in result.stderr)


def test_a_full_disk_leaves_no_file_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    clip(Path("in.mp4"))
    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "add", full)
        result = upscale("in.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "out.mp4 cannot be written: No space left on device. Make room there" in result.stderr
    assert names(".") == ["in.mp4"]
    assert upscale("in.mp4", "-o", "out.mp4").exit_code == 0
    assert len(times_of(Path("out.mp4"))) == len(TICKS)


def test_pictures_too_narrow_for_x265_are_refused_or_become_another_codec() -> None:
    clip(Path("in.mkv"), pan(2, (30, 40)), times=[0, 512], codec="ffv1", pix_fmt="yuv420p10le")
    result = upscale("in.mkv", "-o", "out.mp4", "--codec", "hevc")
    assert (result.exit_code, names(".")) == (1, ["in.mkv"])
    assert "becomes 60 pixels wide, and hevc takes 64 or more" in result.stderr
    assert upscale("in.mkv", "-o", "out.mp4").exit_code == 0
    with av.open("out.mp4") as made:
        assert next(made.decode(video=0)).format.name == "yuv420p10le"
