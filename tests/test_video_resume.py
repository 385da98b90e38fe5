"""A film that was interrupted goes on at its last whole part, to the same frames and times as one that was not."""

import random
import signal
import time
from pathlib import Path

import pytest
from clips import clip, packets_of, pan, pictures_of, times_of
from command import ended, names, place, program, upscale  # noqa: F401  one is a fixture

COUNT = 48
PARTS = ["--part-frames", "4"]


def film(path: Path) -> Path:
    ticks = [index * 512 + 37 * (index % 3) for index in range(COUNT)]
    return clip(path, pan(COUNT, (48, 32)), times=ticks, sounds=["eng"])


def whole_parts(target: str) -> int:
    return len(list(Path(f".{target}.parts").glob("*.json")))


def same(first: Path, second: Path) -> None:
    assert times_of(first) == times_of(second)
    assert packets_of(first, "video") == packets_of(second, "video")
    assert packets_of(first, "audio") == packets_of(second, "audio")
    assert all((a == b).all() for a, b in zip(pictures_of(first), pictures_of(second), strict=True))


def test_five_kills_at_random_moments_change_nothing() -> None:
    film(Path("in.mp4"))
    assert upscale("in.mp4", "-o", "straight.mp4", *PARTS).exit_code == 0
    chance, before = random.Random(5), 0
    for kill in range(5):
        child = program("in.mp4", "-o", "out.mp4", *PARTS, pause=0.02)
        with child:
            until = time.monotonic() + 60
            while whole_parts("out.mp4") < min(before + 1, 10) and child.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(chance.random() * 0.1)
            child.send_signal(signal.SIGKILL if kill % 2 == 0 else signal.SIGINT)
            child.communicate()
        assert not Path("out.mp4").exists()
        assert whole_parts("out.mp4") > before or before >= 10
        before = whole_parts("out.mp4")
    code, _, errors = ended(program("in.mp4", "-o", "out.mp4", *PARTS))
    assert code == 0, errors
    same(Path("straight.mp4"), Path("out.mp4"))
    assert not Path(".out.mp4.parts").exists()


def test_what_lies_in_memory_does_not_change_the_film(monkeypatch: pytest.MonkeyPatch) -> None:
    film(Path("in.mp4"))
    for number, fill in enumerate(("1", "85", "255")):
        monkeypatch.setenv("MALLOC_PERTURB_", fill)  # with which glibc fills what it hands out
        assert ended(program("in.mp4", "-o", f"out{number}.mp4", *PARTS, "--start", "0.2"))[0] == 0
    same(Path("out0.mp4"), Path("out1.mp4"))
    same(Path("out0.mp4"), Path("out2.mp4"))


def killed(*words: str) -> None:
    """After three parts."""
    child = program("in.mp4", "-o", "out.mp4", *PARTS, *words, pause=0.02)
    with child:
        while whole_parts("out.mp4") < 3 and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        child.communicate()


@pytest.mark.parametrize("change", ["settings", "source"])
def test_other_settings_or_another_source_begin_afresh_with_a_word(change: str) -> None:
    film(Path("in.mp4"))
    killed()
    words = [*PARTS, "--crf", "30"] if change == "settings" else PARTS
    if change == "source":
        clip(Path("in.mp4"), pan(12, (48, 32)), sounds=["deu"])
    result = upscale("in.mp4", "-o", "out.mp4", *words)
    assert result.exit_code == 0
    assert "what an earlier run left of it was made otherwise: begun afresh" in result.stdout
    assert upscale("in.mp4", "-o", "straight.mp4", *words).exit_code == 0
    same(Path("straight.mp4"), Path("out.mp4"))


def test_only_what_is_missing_is_made_again() -> None:
    film(Path("in.mp4"))
    killed()
    done = whole_parts("out.mp4") * 4
    result = upscale("in.mp4", "-o", "out.mp4", *PARTS, "--json")
    assert f'"frames": {COUNT}' in result.stdout
    assert 12 <= done < COUNT


def test_parts_join_as_if_it_were_one() -> None:
    source = film(Path("in.mp4"))
    for name in ("parts.mp4", "parts.mkv"):
        assert upscale("in.mp4", "-o", name, *PARTS).exit_code == 0
        assert len(pictures_of(Path(name))) == COUNT
    assert times_of(Path("parts.mp4")) == times_of(source)
    assert names(".") == ["in.mp4", "parts.mkv", "parts.mp4"]
