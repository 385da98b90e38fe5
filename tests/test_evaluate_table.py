"""A CSV of pairs as what is scored on, and as what a training says of the pictures that it held back."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import TINY

from upscale_cli.errors import InputError, UsageError
from upscale_cli.evaluate import EvalRequest, evaluate, make_pair, read_rgb8, read_table, write_table
from upscale_cli.evaluate.exhibit import exhibits
from upscale_cli.train.verb import TrainRequest, train


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Two photographs of one name in two folders, the half of each beside it."""
    for number, path in enumerate(photos[:2]):
        place = tmp_path / f"set{number}"
        place.mkdir()
        photo = read_rgb8(path)[:80, :96]
        Image.fromarray(photo).save(place / "photo.png")
        Image.fromarray(make_pair("", photo, 2).lr).save(place / "half.png")
        Image.fromarray(photo[::2, ::2]).save(place / "coarse.png")
    return tmp_path


def table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def scores(data: Path, **options: object) -> dict[str, float]:
    report = evaluate(EvalRequest(models=("bicubic",), scale=2, data=data, **options))  # type: ignore[arg-type]
    return {image.name: image.scores["psnr_y"] for image in report.models[0].images}


def test_pairs_of_a_csv_score_as_those_of_folders(folder: Path) -> None:
    data = table(folder, "low_res, high_res\nset0/half.png, set0/photo.png\nset1/half.png, set1/photo.png\n")
    found = scores(data)
    assert found == {f"set{n}/photo.png": scores(folder / f"set{n}" / "photo.png")["photo.png"] for n in (0, 1)}
    report = evaluate(EvalRequest(models=("bicubic",), scale=2, data=data))
    assert report.low_resolution == f"read from {data}"
    assert len(exhibits(EvalRequest(models=("bicubic",), scale=2, data=data), report)) == 2


def test_without_low_resolution_it_is_made(folder: Path) -> None:
    data = table(folder, f"high_res,note\n{folder / 'set0' / 'photo.png'},of the first day\n")
    assert list(scores(data).values()) == list(scores(folder / "set0" / "photo.png").values())
    assert "imresize" in evaluate(EvalRequest(models=("bicubic",), scale=2, data=data)).low_resolution


def test_an_original_with_several_halves_is_scored_on_each(folder: Path) -> None:
    data = table(folder, "lr,hr\nset0/half.png,set0/photo.png\nset0/coarse.png,set0/photo.png\n")
    found = scores(data)
    assert found["set0/half.png"] > found["set0/coarse.png"] + 1


def test_a_file_that_is_not_there_is_a_picture_that_was_not_scored(folder: Path) -> None:
    data = table(folder, "low_res,high_res\nset0/half.png,set0/photo.png\nset0/gone.png,set1/photo.png\n")
    report = evaluate(EvalRequest(models=("bicubic",), scale=2, data=data))
    assert not report.whole
    assert [image.name for image in report.models[0].images] == ["set0/photo.png"]
    assert "set0/gone.png" in report.problems[0].reason
    with pytest.raises(InputError, match=r"gone\.png"):
        scores(table(folder, "high_res\ngone.png\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "has no rows with the columns low_res and high_res"),
        ("low_res,high_res\n", "has no rows"),
        ("low_res,high_res\na.png\n", "row 2: a name is missing"),
        ("high_res\na\0.png\n", "row 2: no file can have this name"),
    ],
)
def test_another_table_is_refused(text: str, said: str, folder: Path) -> None:
    with pytest.raises((UsageError, InputError), match=said):
        scores(table(folder, text))


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_text(folder: Path) -> None:
    odd = folder / os.fsdecode(b"ph\xffto,1.png")
    (folder / "set0" / "photo.png").rename(odd)
    write_table(folder / "t.csv", [(folder / "set0" / "half.png", odd)])
    assert read_table(folder / "t.csv")[str(odd)].hr == odd
    assert scores(folder / "t.csv")[str(odd)] > 15
    (folder / "t.csv").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(UsageError, match=r"no rows with the columns|cannot be read"):
        scores(folder / "t.csv")


def test_low_resolution_is_not_said_twice(folder: Path) -> None:
    with pytest.raises(UsageError, match="Leave --lr out"):
        scores(table(folder, "high_res\nset0/photo.png\n"), lr=folder / "set0")
    with pytest.raises(UsageError, match="only films are scored"):
        evaluate(EvalRequest(made=(folder / "film.mp4",), lr=table(folder, "high_res\nset0/photo.png\n")))


def test_what_a_training_held_back_can_be_scored_on(
    tmp_path: Path, spices: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        Image.fromarray(spices[:80, number * 90 :][:, :80]).save(tmp_path / "data" / f"{number}.png")
    config = dataclasses.replace(TINY, steps=2)
    request = TrainRequest(config=config, data=("data",), valid=(), folder=tmp_path / "out", device="cpu")
    report = train(request)
    assert report
    assert report.facts.pictures == 1
    (held,) = read_table(tmp_path / "out" / "test.csv").values()
    assert held.hr.parent == tmp_path / "data"
    monkeypatch.chdir("/")
    result = evaluate(EvalRequest(models=(report.weights,), data=tmp_path / "out" / "test.csv"))
    assert [image.name for image in result.models[0].images] == [str(held.hr)]
    assert result.models[0].scores["psnr_y"] > 10
