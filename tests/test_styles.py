"""What `--style` may say: rows, files, mixtures; and how a style without weights is told."""

from pathlib import Path

import pytest
import torch
from styled import write_style

from upscale_cli import styles, zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.styles import find_style
from upscale_cli.weights.formats import save


def test_every_expert_is_listed_for_both_networks() -> None:
    found = [(entry.style, entry.variant) for entry in styles.styles()]
    assert found == [
        (f"expert-{expert}", variant) for expert in "abcde" for variant in ("lut3d/x1", "enhance-residual/x1")
    ]


def test_a_style_without_weights_says_how_to_make_them() -> None:
    with pytest.raises(UsageError, match=r"of lut3d is untrained.*upscale train lut3d --data FIVEK --set expert=A"):
        find_style("expert-a")
    with pytest.raises(UsageError, match=r"expert-b of enhance-residual is untrained.*upscale train enhance-residual "):
        find_style("expert-b", network="enhance-residual")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("expert-f", r"no style 'expert-f'\. Did you mean 'expert-\w'"),
        ("improved-x4", "enlarges 4 times"),
        ("a.safetensors:0.5", "mixes nothing.*--strength 0.5"),
        ("a.safetensors:0.5,a.safetensors", "its share, or none"),
        ("a.safetensors:-1,a.safetensors:2", "numbers above 0"),
        ("a.safetensors:0,a.safetensors:0", "numbers above 0"),
        ("a.safetensors,r.safetensors", "different networks"),
        ("r.safetensors,r.safetensors,r.safetensors", "two are mixed at most"),
        ("", "no style ''"),
    ],
)
def test_words_that_mean_nothing_are_named(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_style(Path("a.safetensors"))
    torch.manual_seed(0)
    save(Path("r.safetensors"), zoo.find("enhance-residual/x1-tiny").build().state_dict(), {})
    with pytest.raises(UsageError, match=said):
        find_style(words)


def test_a_file_is_a_style_by_what_is_in_it(tmp_path: Path) -> None:
    path = write_style(tmp_path / "my.safetensors")
    style = find_style(str(path), strength=0.5)
    assert (style.kind, style.file_name, style.members, style.shares) == ("tables", "my", (path,), (1.0,))
    torch.manual_seed(0)
    save(tmp_path / "r.safetensors", zoo.find("enhance-residual/x1-tiny").build().state_dict(), {})
    mixed = find_style(f"{tmp_path / 'r.safetensors'}:0.3,{tmp_path / 'r.safetensors'}:0.7")
    assert mixed.kind == "network"
    assert mixed.combination.share == pytest.approx(0.7)
    with pytest.raises(WeightsError, match="does not exist"):
        find_style(str(tmp_path / "none.safetensors"))
    with pytest.raises(UsageError, match="--strength 2"):
        find_style(str(path), strength=2)
