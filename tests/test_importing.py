"""Weights that somebody else made: what they are is found out, and they run or are refused for their true reason."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import first_esrgan_layout
from PIL import Image
from torch import Tensor

from upscale_cli import zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.weights.formats import save
from upscale_cli.weights.importing import check, read_weights
from upscale_cli.weights.loading import load_module, variant_of_file
from upscale_cli.zoo.rrdb import RRDBNet

TINY = "edsr/x2-tiny"


def state_of(name: str = TINY) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(zoo.find(name).build().state_dict())


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.pt", "net.bin", "net.ckpt", "net.weights"])
def test_the_content_decides_whatever_the_name(name: str, tmp_path: Path) -> None:
    for write in (lambda path, state: torch.save({"params": state}, path), lambda path, state: save(path, state, {})):
        write(tmp_path / name, state_of())
        weights = read_weights(tmp_path / name)
        assert weights.variant is zoo.find(TINY)
        assert all(torch.equal(weights.state[key], value) for key, value in state_of().items())


@pytest.mark.parametrize("scale", [2, 4])
def test_a_published_checkpoint_gives_its_published_picture(scale: int, oracles: Path) -> None:
    """leftthomas/SRGAN: 5 blocks, which no row has, an input in [0, 1], no counters, torch's old format."""
    path = oracles / "srgan-leftthomas" / f"netG_epoch_{scale}_100.pth"
    name, variant, module = load_module(path, None)
    assert (name, variant.scale) == (path.stem, scale)
    with Image.open(oracles / "reference" / f"img_003_lr_x{scale}.png") as image:
        lr = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
    with Image.open(oracles / "reference" / f"img_003_srgan-leftthomas-x{scale}.png") as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    with torch.inference_mode():
        sr = module(lr)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(sr - expected).max() <= 1


def test_an_ncnn_model_loads_by_its_path(oracles: Path) -> None:
    path = oracles / "4xLSDIRCompactC3" / "4xLSDIRCompactC3.param"
    assert variant_of_file(path).scale == 4
    name, variant, module = load_module(str(path), None)
    assert (name, variant.name) == ("4xLSDIRCompactC3", "srvgg/x4-16c")
    check(variant, module.state_dict())


def test_the_x2_graph_of_an_x4_network_is_x4(oracles: Path, tmp_path: Path) -> None:
    """animevideov3: the weights are one file, the graph of x2 shrinks the picture after the network."""
    folder = oracles / "realesr-animevideov3"
    shutil.copy(folder / "realesr-animevideov3-x2.param", tmp_path / "net.param")
    shutil.copy(folder / "realesr-animevideov3-x4.bin", tmp_path / "net.bin")
    weights = read_weights(tmp_path / "net.param")
    assert weights.variant.scale == 4
    assert "ends in a resize by 0.5" in weights.notes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_in_the_state_and_is_widened_in_the_network(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({key: value.to(dtype) for key, value in state_of().items()}, tmp_path / "net.pth")
    assert {value.dtype for value in read_weights(tmp_path / "net.pth").state.values()} == {dtype}
    _, _, module = load_module(tmp_path / "net.pth", None)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_hyperparameters_that_no_row_has_are_read_from_the_shapes(tmp_path: Path) -> None:
    made = RRDBNet(scale=2, blocks=2, channels=16, growth=8)
    torch.save({"params_ema": made.state_dict()}, tmp_path / "net.pth")
    weights = read_weights(tmp_path / "net.pth")
    assert weights.variant not in zoo.variants()
    assert (weights.variant.architecture, weights.variant.scale) == ("rrdb", 2)
    assert weights.notes == ("params_ema taken",)
    check(weights.variant, weights.state)
    save(tmp_path / "net.safetensors", weights.state, {"variant": weights.variant.name})
    again = read_weights(tmp_path / "net.safetensors")
    assert (again.variant.name, again.notes) == (weights.variant.name, ())


def test_the_first_esrgan_layout_comes_out_under_our_keys(tmp_path: Path) -> None:
    state = state_of("rrdb/x4-tiny")
    torch.save(first_esrgan_layout(state), tmp_path / "net.pth")
    weights = read_weights(tmp_path / "net.pth")
    assert weights.variant is zoo.find("rrdb/x4-tiny")
    assert all(torch.equal(weights.state[key], value) for key, value in state.items())


def test_a_network_beside_its_discriminator_is_found(tmp_path: Path) -> None:
    whole = {f"net_g.{key}": value for key, value in state_of().items()} | {"net_d.weight": torch.zeros(3)}
    torch.save({"state_dict": whole, "pytorch-lightning_version": "2.0"}, tmp_path / "net.ckpt")
    weights = read_weights(tmp_path / "net.ckpt")
    assert weights.variant is zoo.find(TINY)
    assert weights.notes == ("state_dict taken", f"net_g.* taken of {len(whole)} tensors")


def test_the_header_names_the_network(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save(path, state_of(), {"variant": TINY, "recipe": "x.toml"})
    weights = read_weights(path)
    assert (weights.variant, weights.metadata["recipe"], weights.notes) == (zoo.find(TINY), "x.toml", ())
    save(path, state_of(), {"variant": "edsr/x4"})
    assert re.search(r"do not fit edsr/x4: .*missing.*those of edsr/x2-tiny \(scale 2\)", refusal(path))
    save(path, state_of(), {"variant": "other/x9"})
    weights = read_weights(path)
    assert weights.variant is zoo.find(TINY)
    assert weights.notes == ("the header names other/x9, which is no network here: by its tensors it is edsr/x2-tiny",)


def test_the_caller_may_name_the_network(tmp_path: Path) -> None:
    """Where the input is enlarged before the network, its tensors are those of every scale."""
    torch.save(state_of("mobilenetv2/x4"), tmp_path / "net.pth")
    assert "fit several networks: mobilenetv2/x2, mobilenetv2/x4" in refusal(tmp_path / "net.pth")
    assert read_weights(tmp_path / "net.pth", variant="mobilenetv2/x4").variant.scale == 4
    with pytest.raises(WeightsError, match="do not fit edsr/x2"):
        read_weights(tmp_path / "net.pth", variant="edsr/x2")
    with pytest.raises(UsageError, match="'edsr/x5'"):
        read_weights(tmp_path / "net.pth", variant="edsr/x5")


def test_missing_tensors_get_the_nearest_networks(tmp_path: Path) -> None:
    state = state_of("edsr/x2")
    del state["body.3.body.0.weight"]
    torch.save(state, tmp_path / "net.pth")
    message = refusal(tmp_path / "net.pth")
    assert f"exactly these {len(state)} tensors. Nearest: edsr/x2 ({len(state)} of {len(state)} tensors)" in message
    save(tmp_path / "net.safetensors", state, {"variant": "edsr/x2"})
    assert "1 tensor missing: body.3.body.0.weight" in refusal(tmp_path / "net.safetensors")


UNUSABLE = {
    "nan": (lambda value: torch.full_like(value, float("nan")), "1 tensor with NaN or infinite values: head.0.bias"),
    "integers": (lambda value: value.to(torch.int8), "not floating point: head.0.bias (torch.int8)"),
    "another shape": (lambda value: value[:-1], "No network here has exactly these"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_numbers_are_named(case: str, tmp_path: Path) -> None:
    change, message = UNUSABLE[case]
    state = state_of()
    torch.save(state | {"head.0.bias": change(state["head.0.bias"])}, tmp_path / "net.pth")
    assert message in refusal(tmp_path / "net.pth")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.bin"])
@pytest.mark.parametrize("modern", [True, False])
def test_nothing_is_run_under_any_name(name: str, modern: bool, tmp_path: Path) -> None:
    content = {"params": state_of(), "x": Trap(tmp_path / "executed")}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=modern)
    assert "asks to run code" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed"), protocol=4))
    refusal(tmp_path / name)
    assert not (tmp_path / "executed").exists()


NOT_WEIGHTS = {
    "html": (b"\n<!DOCTYPE html><html><title>404</title>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a git-LFS pointer"),
    "empty": (b"", "is empty"),
    "noise": (bytes(range(200, 256)), "is no weights file that is known"),
}


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.param", "net.bin"])
@pytest.mark.parametrize("case", NOT_WEIGHTS)
def test_what_is_no_weights_file_is_named(case: str, name: str, tmp_path: Path) -> None:
    body, message = NOT_WEIGHTS[case]
    (tmp_path / name).write_bytes(body)
    assert message in refusal(tmp_path / name)


def test_an_absent_file_says_how_models_are_named(tmp_path: Path) -> None:
    for load in (variant_of_file, lambda path: load_module(path, None)):
        with pytest.raises(WeightsError, match=r"does not exist|No such file"):
            load(tmp_path / "none.pth")


@pytest.mark.parametrize("name", [TINY, "srvgg/x2-tiny", "rrdb/x4-tiny", "srresnet/x2-tiny", "rrdb/x2"])
def test_a_sound_network_passes_the_check(name: str) -> None:
    check(zoo.find(name), state_of(name))


def test_a_network_that_gives_no_picture_fails_the_check() -> None:
    variant = zoo.find("edsr/x2-tiny")
    state = {key: torch.zeros_like(value) for key, value in state_of().items()}
    with pytest.raises(WeightsError, match=r"edsr/x2-tiny gives a picture of one colour"):
        check(variant, state)
    coloured = {"add_mean.bias": torch.tensor([0.1, 0.5, 0.9])}
    with pytest.raises(WeightsError, match="a picture of one colour"):
        check(variant, state | coloured)
    with pytest.raises(WeightsError, match=r"edsr/x2-tiny gives NaN or infinity"):
        check(variant, state_of() | {"head.0.weight": torch.full_like(state["head.0.weight"], 3e38)})
    with pytest.raises(WeightsError, match="1 tensor missing"):
        check(variant, {key: value for key, value in state_of().items() if key != "head.0.bias"})
