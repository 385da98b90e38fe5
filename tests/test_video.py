"""Videos from file to file: every time, every stream and every tag arrives, or a line says what did not."""

import itertools
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import TICKS, clip, packets_of, pan, pictures_of, rich, times_of
from command import names, place, upscale  # noqa: F401  one is a fixture
from hypothesis import given
from hypothesis import strategies as st

from upscale_cli.media.video.container import probe
from upscale_cli.media.video.parts import decoding_times


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv"])
def test_every_frame_keeps_its_time_and_sound_its_packets(target: str) -> None:
    source = clip(Path("in.mp4"), times=[time + 640 for time in TICKS], sounds=["eng"])
    result = upscale(str(source), "-o", target)
    assert result.exit_code == 0, result.stderr
    before, after = times_of(source), times_of(Path(target))
    assert before[0] == Fraction(640, 12800)
    if target == "out.mkv":
        assert max(abs(old - new) for old, new in zip(before, after, strict=True)) <= Fraction(1, 2000)
        assert "counts in milliseconds" in result.stdout
    else:
        assert after == before
    assert packets_of(Path(target), "audio") == packets_of(source, "audio")
    assert names(".") == ["in.mp4", target]
    assert not list(Path().glob(".*.parts"))


def test_frames_are_what_the_network_made() -> None:
    source = clip(Path("in.mkv"), codec="ffv1", pix_fmt="yuv444p")
    assert upscale("in.mkv", "--codec", "ffv1", "-o", "out.mkv").exit_code == 0
    for before, after in zip(pictures_of(source), pictures_of(Path("out.mkv")), strict=True):
        error = before.repeat(2, 1).repeat(2, 2).astype(int) - after
        assert abs(error).max() <= 2
        assert abs(error).mean() < 0.4


def test_all_streams_and_tags_of_matroska_arrive() -> None:
    source = rich(Path("in.mkv"), clip(Path("plain.mp4"), sounds=["eng", "deu"]))
    assert upscale("in.mkv", "-o", "out.mkv").exit_code == 0
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0)):
        assert packets_of(Path("out.mkv"), kind, number) == packets_of(source, kind, number)
    with av.open("in.mkv") as before, av.open("out.mkv") as after:
        assert after.metadata["title"] == "A film"
        assert [chapter["metadata"] for chapter in after.chapters()] == [{"title": "One"}, {"title": "Two"}]
        assert [stream.metadata.get("language") for stream in after.streams] == [
            stream.metadata.get("language") for stream in before.streams
        ]
        assert [stream.disposition for stream in after.streams] == [stream.disposition for stream in before.streams]
        assert after.streams[4].data == b"no font but bytes"


def test_what_mp4_cannot_hold_is_converted_or_named() -> None:
    rich(Path("in.mkv"), clip(Path("plain.mp4"), sounds=["eng", "deu"]))
    result = upscale("in.mkv", "-o", "out.mp4")
    assert result.exit_code == 0
    assert "subtitle stream 3: srt became mov_text" in result.stdout
    assert "attachment dropped: mp4 holds no font.ttf" in result.stdout
    said = [packet for packet, _ in packets_of(Path("out.mp4"), "subtitle") if len(packet) > 2]
    assert said == [b"\0\x0bHello there"]
    assert len(packets_of(Path("out.mp4"), "audio", 1)) == len(packets_of(Path("in.mkv"), "audio", 1))


def test_strip_metadata_leaves_out_who_and_where_and_keeps_languages() -> None:
    clip(Path("in.mp4"), sounds=["eng"])
    assert upscale("in.mp4", "-o", "out.mp4", "--strip-metadata").exit_code == 0
    with av.open("out.mp4") as made:
        assert "title" not in made.metadata
        assert made.streams[1].metadata["language"] == "eng"


def test_a_turned_video_comes_out_upright() -> None:
    source = clip(Path("in.mp4"), rotation=-90)
    assert probe(source, max_pixels=10**6).turn == 3
    assert upscale("in.mp4", "-o", "out.mp4").exit_code == 0
    with av.open("out.mp4") as made:
        frame = next(made.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (96, 128, 0)
    upright = np.rot90(pan(1)[0], -1).repeat(2, 0).repeat(2, 1)
    assert abs(frame.to_ndarray(format="rgb24").astype(int) - upright).mean() < 6


@pytest.mark.parametrize(
    ("codec", "target"), [("h264", "out.mkv"), ("hevc", "out.mp4"), ("av1", "out.mp4"), ("ffv1", "out.mp4"),
                          ("prores", "out.mov")]
)  # fmt: skip
@pytest.mark.parametrize("rotation", [0, 90])
def test_the_shape_of_pixels_stays(codec: str, target: str, rotation: int) -> None:
    clip(Path("in.mp4"), times=[0, 512], aspect=Fraction(4, 3), rotation=rotation)
    result = upscale("in.mp4", "-o", target, "--codec", codec)
    assert result.exit_code == 0, result.stderr
    with av.open(target) as made:
        assert made.streams.video[0].sample_aspect_ratio == (Fraction(3, 4) if rotation else Fraction(4, 3))


def test_transparency_beside_the_frames_is_named_and_no_longer_promised() -> None:
    with av.open("in.webm", "w") as file:
        stream = file.add_stream("libvpx-vp9", rate=10)
        stream.height, stream.width, stream.pix_fmt = *pan(1)[0].shape[:2], "yuva420p"
        stream.metadata.update(alpha_mode="1", title="a")
        frames = [
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels)).reformat(format="yuva420p") for pixels in pan(2)
        ]
        for frame in (*frames, None):
            file.mux(stream.encode(frame))
    assert "transparency dropped" in upscale("in.webm", "-o", "out.webm").stdout
    with av.open("out.webm") as made:
        assert {key.lower() for key in made.streams.video[0].metadata} & {"alpha_mode", "title"} == {"title"}


def test_a_shape_of_pixels_that_has_no_place_is_named() -> None:
    clip(Path("in.mp4"), times=[0, 512], aspect=Fraction(4, 3))
    assert "pixel aspect 4:3 dropped: av1 has no place for it here" in upscale("in.mp4", "-o", "out.webm").stdout


def test_avi_comes_back_as_matroska_and_is_not_called_incomplete() -> None:
    clip(Path("in.avi"), times=[index * 512 for index in range(12)])
    result = upscale("in.avi")
    assert (result.exit_code, names(".")) == (0, ["in.avi", "in_x2.mkv"])
    assert "AVI is not written: became MATROSKA" in result.stdout


@pytest.mark.parametrize(("matrix", "primaries"), [(1, 1), (6, 6), (9, 9)])
@pytest.mark.parametrize("full", [1, 2])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_a_known_colour_survives_to_two_levels(matrix: int, primaries: int, full: int, pix_fmt: str) -> None:
    color = np.array([200, 90, 40], np.uint8)
    frames = [np.broadcast_to(color, (32, 32, 3)).copy()] * 2
    clip(Path("in.mkv"), frames, times=[0, 512], pix_fmt=pix_fmt, color=(primaries, 1, matrix, full))
    assert upscale("in.mkv", "-o", "out.mkv", "-e", "crf=1").exit_code == 0
    with av.open("in.mkv") as before, av.open("out.mkv") as after:
        old, new = next(before.decode(video=0)), next(after.decode(video=0))
        assert (new.colorspace, new.color_range, new.color_primaries) == (matrix, full, primaries)
        assert new.format.name == old.format.name
        step = 4 if "10" in pix_fmt else 1
        for plane in range(3):
            values = [
                np.frombuffer(frame.planes[plane], np.uint8 if step == 1 else np.uint16)[0] for frame in (old, new)
            ]
            assert abs(int(values[0]) - int(values[1])) <= 2 * step


def test_a_matrix_that_players_guess_by_size_is_said_aloud_where_the_size_changes_the_guess() -> None:
    frames = pan(1, (200, 160))
    clip(Path("small.mkv"), frames, times=[0])
    assert upscale("small.mkv", "-o", "large.mkv", "-s", "4").exit_code == 0
    assert upscale("small.mkv", "-o", "middle.mkv", "-s", "2").exit_code == 0
    with av.open("large.mkv") as large, av.open("middle.mkv") as middle:
        assert next(large.decode(video=0)).colorspace == 6
        assert next(middle.decode(video=0)).colorspace == 2


def test_hlg_stays_ten_bits_with_its_tags_and_is_never_put_on_eight() -> None:
    clip(Path("in.mp4"), codec="libx265", pix_fmt="yuv420p10le", color=(9, 18, 9, 1))
    assert upscale("in.mp4", "-o", "out.mp4").exit_code == 0
    with av.open("out.mp4") as made:
        assert made.streams.video[0].codec_context.name == "hevc"
        frame = next(made.decode(video=0))
    assert (frame.format.name, frame.color_primaries, frame.color_trc, frame.colorspace) == ("yuv420p10le", 9, 18, 9)
    for wish in (["--pix-fmt", "yuv420p"], ["--depth", "8"]):
        result = upscale("in.mp4", "-o", "small.mp4", *wish)
        assert result.exit_code == 1
        assert "is HLG (HDR), which yuv420p has too few bits for" in result.stderr
    assert not Path("small.mp4").exists()


def test_hdr10_keeps_what_it_says_of_its_screen_or_says_that_it_is_dropped() -> None:
    screen = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    clip(Path("plain.mp4"), codec="libx265", pix_fmt="yuv420p10le", color=(9, 16, 9, 1))
    assert upscale("plain.mp4", "-o", "in.mp4", "-s", "1", "-e", f"x265-params={screen}").exit_code == 0
    result = upscale("in.mp4", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    for name in ("in.mp4", "out.mp4"):
        assert ":".join(probe(Path(name), max_pixels=10**6).hdr10) == screen
    assert "HDR10 metadata (screen and light) dropped" in upscale("in.mp4", "-o", "o.mkv", "--codec", "ffv1").stdout


def test_odd_sides_are_made_even_by_repeating_the_edge_with_a_word() -> None:
    clip(Path("in.mp4"), pan(2, (34, 30)), times=[0, 512])
    result = upscale("in.mp4", "-o", "out.mp4", "-s", "1.5")
    assert "51 x 45 became 52 x 46, edge repeated: yuv420p needs even sides" in result.stdout
    with av.open("out.mp4") as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (52, 46)


@pytest.mark.parametrize(
    ("codec", "target", "name", "pix_fmt"),
    [
        ("hevc", "out.mp4", "hevc", "yuv420p"),
        ("av1", "out.webm", "libdav1d", "yuv420p"),
        ("auto", "out.webm", "libdav1d", "yuv420p"),
        ("prores", "out.mov", "prores", "yuv422p10le"),
        ("ffv1", "out.mkv", "ffv1", "yuv420p"),
    ],
)
def test_every_codec_keeps_frames_and_times(codec: str, target: str, name: str, pix_fmt: str) -> None:
    source = clip(Path("in.mp4"), times=[index * 512 for index in range(6)])
    result = upscale("in.mp4", "-o", target, "--codec", codec, "-v")
    assert result.exit_code == 0, result.stderr
    with av.open(target) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == (name, pix_fmt)
    assert times_of(Path(target)) == times_of(source)
    assert "should be" not in result.stdout


def test_settings_reach_the_encoder() -> None:
    clip(Path("in.mp4"))
    sizes = []
    for words in (["--crf", "10"], ["--crf", "40"], ["--crf", "40", "--preset", "ultrafast", "-e", "bf=0"]):
        assert upscale("in.mp4", "-o", "out.mp4", "--overwrite", *words).exit_code == 0
        sizes.append(Path("out.mp4").stat().st_size)
    assert sizes[0] > 2 * sizes[1]
    with av.open("out.mp4") as made:
        packets = [packet for packet in made.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]


def test_folders_mix_pictures_and_videos() -> None:
    Path("in").mkdir()
    clip(Path("in/a.mp4"))
    from PIL import Image

    Image.fromarray(pan(1)[0]).save("in/b.png")
    assert upscale("in", "-o", "out").exit_code == 0
    assert names("out") == ["a_x2.mp4", "b_x2.png"]
    result = upscale("in", "-o", "other", "-f", "mkv")
    assert (result.exit_code, names("other")) == (0, ["a_x2.mkv", "b_x2.png"])


def test_json_says_frames_and_sizes() -> None:
    clip(Path("in.mp4"))
    found = json.loads(upscale("in.mp4", "-o", "out.mp4", "--json").stdout)["files"][0]
    assert (found["frames"], found["in_size"], found["out_size"]) == (len(TICKS), [64, 48], [128, 96])


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not on this machine")
def test_another_program_sees_the_same_times() -> None:
    clip(Path("in.mp4"), sounds=["eng"])
    assert upscale("in.mp4", "-o", "out.mp4").exit_code == 0
    ask = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-of",
        "csv",
        "-show_entries",
        "frame=best_effort_timestamp",
    ]
    before, after = (
        subprocess.run([*ask, name], check=True, capture_output=True, text=True) for name in ("in.mp4", "out.mp4")
    )
    assert before.stdout == after.stdout
    assert after.stdout.count("frame") == len(TICKS)
    assert after.stderr == ""


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40, unique=True), st.booleans())
def test_decoding_times_rise_and_are_never_after_their_frames(times: list[int], strict: bool) -> None:
    decoded = decoding_times(times, strict=strict)
    assert all(at <= time for at, time in zip(decoded, times, strict=True))
    assert all(a < b if strict else a <= b for a, b in itertools.pairwise(decoded))
    assert strict or decoded[0] >= min(times)
