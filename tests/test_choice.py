"""`--model auto`: the best network that is at hand and in proportion to the input, and the reason in one line."""

import json
from pathlib import Path

import pytest
from clips import clip, pan
from command import place, upscale  # noqa: F401  one is a fixture
from PIL import Image

from upscale_cli import choice, findings
from upscale_cli import device as devices
from upscale_cli.errors import UsageError
from upscale_cli.findings import Finding
from upscale_cli.jobs import Item, plan
from upscale_cli.manifest import load_manifest
from upscale_cli.request import NetworkOptions, RunRequest, Size
from upscale_cli.weights.source import local


@pytest.fixture(autouse=True)
def two_cores(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(devices, "threads", lambda: 2)


def picture(name: str, width: int, height: int) -> Path:
    Image.new("RGB", (width, height), (90, 60, 30)).save(name)
    return Path(name)


def planned(*inputs: Path, **network: str) -> tuple[dict[str, Item], str]:
    """Every input's item by its name, and the reason."""
    options = NetworkOptions(model="auto", device="cpu", **network)
    made = plan(RunRequest(inputs=tuple(map(str, inputs)), size=Size(scale=2), network=options))
    return {item.source.name: item for item in made.items}, made.warnings[0]


def measured(model: str, seconds_per_pixel: float, precision: str = "bf16") -> None:
    findings.remember(
        [
            Finding(
                findings.machine("cpu"), model, "openvino", precision, 256, seconds_per_pixel, 1.0, None, "2026-01-01"
            )
        ]
    )


def test_a_picture_gets_the_best_and_a_film_what_is_in_proportion() -> None:
    small = picture("small.png", 640, 480)
    film = clip(Path("film.mp4"), pan(12, (240, 160)), times=[index * 512 for index in range(12)])
    items, reason = planned(small, film)
    assert [stage.name for stage in items["small.png"].stages] == ["span-x2"]
    assert [stage.name for stage in items["film.mp4"].stages] == ["span-x2"]
    assert reason.startswith("--model auto: span for 1 picture, the best that is here; about 2 s on cpu, a guess")
    assert "span for 1 video, the best that is here" in reason
    for slow in ("span-x2", "improved-x2", "edsr-x2"):
        measured(slow, 1e-4)
    items, reason = planned(small, film)
    assert [stage.name for stage in items["small.png"].stages] == ["span-x2"]
    assert [stage.name for stage in items["film.mp4"].stages] == ["lightweight-x2"]
    assert "span would take 46 s, more than 20 times a film's length" in reason


def test_what_the_bench_found_decides() -> None:
    large = picture("large.png", 4000, 3000)
    assert planned(large)[0]["large.png"].stages[0].name == "span-x2"
    measured("span-x2", 2e-5)
    measured("span-x2", 1e-9, "int8")  # not what runs unless asked for
    for slower in ("edsr-x2", "improved-x2"):
        measured(slower, 3e-5)
    items, reason = planned(large)
    assert items["large.png"].stages[0].name == "lightweight-x2"
    assert reason == (
        "--model auto: lightweight for 1 picture, span would take 4 min, more than 120 s a picture; "
        "about 8 s on cpu, a guess without `upscale bench`."
    )
    measured("lightweight-x2", 4e-5)
    measured("span-x2", 1e-6)
    items, reason = planned(large)
    assert items["large.png"].stages[0].name == "span-x2"
    assert reason.endswith("about 12 s on cpu, by `upscale bench`.")


def test_where_all_take_too_long_the_fastest_is_taken() -> None:
    large = picture("large.png", 4000, 3000)
    for model, seconds in (("span-x2", 3e-4), ("improved-x2", 3e-4), ("edsr-x2", 1e-4), ("lightweight-x2", 2e-4)):
        measured(model, seconds)
    assert planned(large)[0]["large.png"].stages[0].name == "edsr-x2"


def test_no_model_is_chosen_that_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {entry.name for entry in load_manifest().entries if entry.model == "span"}
    monkeypatch.setattr(choice, "local", lambda entry: None if entry.name in absent else local(entry))
    assert planned(picture("a.png", 64, 48))[0]["a.png"].stages[0].name == "improved-x2"
    monkeypatch.setattr(choice, "local", lambda _: None)
    with pytest.raises(UsageError, match="Name one with --model"):
        planned(Path("a.png"))


def test_another_picture_beside_it_changes_no_choice() -> None:
    first = picture("a.png", 320, 240)
    alone = planned(first)[0]["a.png"]
    beside = planned(first, picture("b.png", 6000, 6000))[0]["a.png"]
    assert (alone.stages, alone.settings) == (beside.stages, beside.settings)


def test_dry_run_shows_the_choice_and_the_reason() -> None:
    picture("a.png", 64, 48)
    result = upscale("a.png", "--dry-run", "--json", model="auto")
    found = json.loads(result.stdout)
    assert found["plan"][0]["networks"] == ["span-x2"]
    assert found["warnings"][0].startswith("--model auto: span for 1 picture")
    assert "--model auto: span" in upscale("a.png", model="auto").stderr
