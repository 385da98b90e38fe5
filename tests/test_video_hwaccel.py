"""Decoding by a graphics card: taken where it gives the processor's frames, left where not, and part of no film.

The card is played: the processor decodes, and frames are handed over as cards do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from clips import clip, pan
from command import names, place, upscale  # noqa: F401  one is a fixture
from test_video_resume import COUNT, PARTS, film, killed, same, whole_parts

from upscale_cli.media.frame import Frame
from upscale_cli.media.job import Reached
from upscale_cli.media.video import container, decoder, hardware
from upscale_cli.media.video.decoder import Card, CardError
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.source import VideoSource

H265 = {"x265-params": "log-level=none"}


class Played(Card):
    """`fails_at` is the packet at which the driver gives up, `wrong` changes a value of every frame."""

    made: list["Played"] = []  # noqa: RUF012  of one test
    fails_at = 9999
    wrong = False

    def __init__(self, name: str, pixels: str) -> None:
        super().__init__(name, pixels)
        self.packets = 0
        self.made.append(self)

    @contextmanager
    def opened(self, path: Path) -> Iterator[InputContainer]:
        self.packets = 0
        with container.opened(path) as found:
            yield found

    def decode(self, stream: VideoStream, packet: Packet | None) -> list[VideoFrame]:
        self.packets += 1
        if self.packets > self.fails_at:
            raise CardError("the driver was reset")
        return super().decode(stream, packet)

    def _as_software(self, frame: VideoFrame) -> VideoFrame:
        handed = downloaded(frame)
        if self.wrong:
            luma = bytearray(handed.planes[0])
            luma[70] ^= 1
            handed.planes[0].update(luma)
        return super()._as_software(handed)


def downloaded(frame: VideoFrame) -> VideoFrame:
    """As it lies in a card: two planes, 10 bits at the top of 16."""
    deep = frame.format.name.endswith("10le")
    handed = frame.reformat(format="p010le" if deep else "nv12")  # for all that is said of it
    luma, *chroma = (plane.view("<u2") << 6 if deep else plane for plane in decoder._planes(frame))
    for half, values in zip(handed.planes, (luma, np.stack(chroma, -1).reshape(len(chroma[0]), -1)), strict=True):
        rows = np.zeros((half.height, half.line_size), np.uint8)
        rows[:, : values.shape[1] * values.itemsize] = np.ascontiguousarray(values).view(np.uint8)
        half.update(rows.tobytes())
    return handed


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    """An Nvidia card is there, and decodes."""
    monkeypatch.setattr(decoder, "Card", Played)
    monkeypatch.setattr(decoder, "_ways", lambda _: {"cuda"})
    monkeypatch.setattr(decoder, "hwdevices_available", lambda: ["cuda"])
    monkeypatch.setattr(hardware, "present", lambda family: family == "nvenc")
    for name, value in (("made", []), ("fails_at", 9999), ("wrong", False)):
        monkeypatch.setattr(Played, name, value)
    return Played


def read(path: Path, hwaccel: str = "auto", reached: Reached | None = None) -> tuple[list[Frame], VideoSource]:
    with VideoSource(
        path, VideoOptions(hwaccel=hwaccel), max_pixels=10**9, reached=reached or Reached(0, ())
    ) as source:
        return list(source.frames()), source


def equal(first: list[Frame], second: list[Frame]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.color, other.color)
        assert (one.pts, one.ticks, one.mark) == (other.pts, other.ticks, other.mark)


FILMS = {
    "h264": {},
    "full range": {"color": (1, 1, 1, 2)},
    "hevc of 10 bits": {"codec": "libx265", "pix_fmt": "yuv420p10le", "color": (9, 16, 9, 1), "options": H265},
    "turned": {"rotation": 90},
    "interlaced": {"options": {"x264-params": "interlaced=1"}},
    "of pixels that are no squares": {"aspect": Fraction(4, 3)},
}


@pytest.mark.parametrize("kind", FILMS)
def test_frames_by_a_card_are_those_of_the_processor(kind: str, card: type[Played]) -> None:
    source = clip(Path("in.mkv"), pan(12, (160, 96)), **FILMS[kind])  # type: ignore[arg-type]
    by_card, opened = read(source)
    assert isinstance(opened._card, Played)
    by_processor, plain = read(source, "none")
    assert plain._card is None
    equal(by_card, by_processor)
    assert opened.notes == plain.notes
    assert opened.info == plain.info


def test_the_planes_and_all_that_is_said_of_a_frame_survive_the_way_from_the_card() -> None:
    source = clip(Path("in.mkv"), pan(12, (160, 96)), options={"x264-params": "interlaced=1"}, color=(1, 13, 1, 2))
    with container.opened(source) as film:
        for frame in film.decode(video=0):
            back = Played("cuda", frame.format.name)._as_software(frame)
            assert decoder._same([frame], [back])
            assert back.interlaced_frame
            assert not decoder._same([frame], [])
            back.pts = 5
            assert not decoder._same([frame], [back])


def test_auto_asks_no_card_where_none_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    source = clip(Path("in.mp4"))
    monkeypatch.setattr(hardware, "present", lambda _: False)
    monkeypatch.setattr(decoder, "fault", lambda *_: pytest.fail("a card is tried"))
    assert read(source)[1]._card is None


@pytest.mark.parametrize("why", ["another frame", "gives up", "no way"])
def test_auto_leaves_a_card_that_does_not_give_these_frames_without_a_word(
    why: str, card: type[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(Path("in.mp4"))
    if why == "another frame":
        card.wrong = True
    if why == "gives up":
        card.fails_at = 2
    if why == "no way":
        monkeypatch.setattr(decoder, "_ways", lambda _: {"vaapi"})
    frames, opened = read(source)
    assert (opened._card, opened.notes, len(frames)) == (None, [], 12)


def test_a_card_asked_for_that_gives_other_frames_is_an_error_with_a_way_out(card: type[Played]) -> None:
    clip(Path("in.mp4"))
    card.wrong = True
    result = upscale("in.mp4", "-o", "out.mp4", "--hwaccel", "cuda")
    assert result.exit_code == 1
    assert "--hwaccel cuda does not decode it here: its frames are not those of the processor." in result.output
    assert "Leave it out" in result.output
    assert names(".") == ["in.mp4"]


@pytest.mark.skipif(hardware.present("nvenc"), reason="this machine has a graphics card")
def test_a_card_that_is_not_there_is_named_in_the_words_of_its_driver() -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", "-o", "out.mp4", "--hwaccel", "cuda")
    assert result.exit_code == 1
    assert "--hwaccel cuda does not decode it here: " in result.output
    assert "libcuda" in result.output or "no way to decode" in result.output
    assert upscale("in.mp4", "-o", "out.mp4", "--hwaccel", "none").exit_code == 0


def test_a_way_nobody_knows_is_refused_with_those_there_are() -> None:
    clip(Path("in.mp4"))
    result = upscale("in.mp4", "--hwaccel", "nvdec")
    assert result.exit_code == 2
    assert "--hwaccel nvdec is not known. Choose auto, none, cuda" in result.stderr


def test_what_cards_do_not_decode_stays_with_the_processor_with_a_word_where_one_was_asked_for(
    card: type[Played],
) -> None:
    source = clip(Path("in.mkv"), codec="ffv1", pix_fmt="yuv444p")
    assert read(source)[1].notes == []
    (frames, opened) = read(source, "cuda")
    assert len(frames) == 12
    assert opened.notes == ["yuv444p of 64 x 48 is nothing for cards: decoded by the processor"]
    assert card.made == []
    assert all(frame.mark for frame in frames[1:]), "a note from the start keeps no run from going on"


@pytest.mark.parametrize("fails_at", [6, 21, 22, 40, 49])
@pytest.mark.parametrize("reached", [False, True])
def test_a_card_that_fails_in_the_middle_gives_way_and_no_frame_changes(
    fails_at: int, reached: bool, card: type[Played]
) -> None:
    source = clip(Path("in.mp4"), pan(48), times=[index * 512 for index in range(48)], options={"g": "10"})
    expected, _ = read(source, "none")
    begun = Reached(15, expected[14].mark) if reached else None
    card.fails_at = fails_at
    frames, opened = read(source, reached=begun)
    equal(frames, expected[15:] if reached else expected)
    line = "cuda failed in the middle (the driver was reset): decoded by the processor from there on"
    assert opened.notes == ([line] if card.made[-1].packets > fails_at else [])
    assert opened.missing == ""


def test_a_damaged_film_is_given_back_to_the_processor(card: type[Played]) -> None:
    """Who paints over what is missing does it in his own way."""
    source = clip(Path("in.mkv"), pan(48), times=[index * 512 for index in range(48)], options={"g": "12"})
    data = bytearray(source.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000, 50):
        data[at] ^= 0x55
    source.write_bytes(data)
    frames, opened = read(source)
    print(opened.notes, [f.mark == () for f in frames])
    assert [note.partition(" (")[0] for note in opened.notes] == ["cuda failed in the middle"]
    expected, plain = read(source, "none")
    assert [frame.pts for frame in frames] == [frame.pts for frame in expected]
    assert opened.missing == plain.missing


def test_a_film_goes_on_by_whoever_decodes_to_the_same_frames(card: type[Played]) -> None:
    film(Path("in.mp4"))
    killed("--hwaccel", "none")  # another process, which has no card
    assert whole_parts("out.mp4") >= 3
    assert upscale("in.mp4", "-o", "out.mp4", *PARTS).exit_code == 0
    assert any(played.packets for played in card.made)
    assert upscale("in.mp4", "-o", "straight.mp4", *PARTS, "--hwaccel", "none").exit_code == 0
    same(Path("straight.mp4"), Path("out.mp4"))
    again = upscale("in.mp4", "-o", "out.mp4", *PARTS, "--hwaccel", "none", "--json")
    assert f'"frames": {COUNT}' not in again.stdout, "what was made by a card is made"


def test_av_still_takes_what_is_said_to_it() -> None:
    """Without a card: that the words are known, and that a missing device is an error and no silence."""
    source = clip(Path("in.mp4"))
    accel = HWAccel("cuda", allow_software_fallback=False)
    if hardware.present("nvenc") or "cuda" not in decoder.hwdevices_available():
        pytest.skip("a card is here, or FFmpeg knows of none")
    with pytest.raises((av.FFmpegError, OSError)), container.opened(source, accel):
        pass
    with pytest.raises(CardError), Card("cuda", "yuv420p").opened(source):
        pass
