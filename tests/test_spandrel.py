"""Architectures of spandrel behind our interface: the same pictures, read by our readers; clear words without it."""

import builtins
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import oracle
from torch import Tensor

from upscale_cli.engines import open_engine
from upscale_cli.errors import WeightsError
from upscale_cli.model import Model, load_model
from upscale_cli.pipeline import Upscaler
from upscale_cli.weights import spandrel as ours
from upscale_cli.weights.formats import save
from upscale_cli.weights.loading import variant_of_file

CPU = torch.device("cpu")
NETWORKS: dict[str, dict[str, Any]] = {
    "SwiftSRGAN": {"num_channels": 8, "num_blocks": 1, "upscale_factor": 2},
    "OmniSR": {"num_feat": 16, "res_num": 1, "up_scale": 2},
    "SwinIR": {
        "depths": [2],
        "num_heads": [2],
        "embed_dim": 16,
        "window_size": 8,
        "upscale": 2,
        "upsampler": "pixelshuffle",
    },
}


def network(name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of spandrel's own class with random weights."""
    built = getattr(oracle(f"spandrel.architectures.{name}"), name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, not ours
        return {key: value.contiguous() for key, value in built(**arguments).state_dict().items()}


def descriptor_of(state: dict[str, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return oracle("spandrel").MAIN_REGISTRY.load(dict(state)).eval()


def pickled(folder: Path, name: str) -> tuple[Path, dict[str, Tensor]]:
    state = network(name, NETWORKS[name])
    path = folder / f"{name}.pth"
    torch.save({"params_ema": state}, path)
    return path, state


@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_the_picture_of_spandrel(name: str, tmp_path: Path, spices: np.ndarray) -> None:
    path, state = pickled(tmp_path, name)
    variant, module, notes = ours.read(path)
    assert (variant.name, variant.scale, variant.task) == (f"spandrel/{name.lower()}-x2", 2, "upscale")
    assert variant.parameters == sum(value.numel() for value in module.parameters())
    descriptor = descriptor_of(state)
    assert notes == (f"known to spandrel as {descriptor.architecture.name}", "params_ema taken")
    for height, width in ((40, 33), (9, 5)):  # the second is less than a window
        lr = torch.from_numpy(spices[200 : 200 + height, 300 : 300 + width].copy()).permute(2, 0, 1)[None] / 255
        model = Model(name, variant, module, device=CPU, precision="fp32")
        assert model(lr).numpy() == pytest.approx(descriptor(lr).numpy(), abs=1e-5)


def test_it_runs_through_the_pipeline(tmp_path: Path, spices: np.ndarray) -> None:
    state = network("OmniSR", NETWORKS["OmniSR"])
    path = tmp_path / "omni.safetensors"
    save(path, state, {})
    assert variant_of_file(path).name == "spandrel/omnisr-x2"
    upscaler = Upscaler([open_engine(path, device="cpu", precision="fp32")], tile_px=96)
    lr = spices[180:300, 280:410]
    sr = upscaler.enlarge_rgb8(lr)
    assert sr.shape == (240, 260, 3)
    whole = load_model(path, device="cpu", precision="fp32")(torch.from_numpy(lr.copy()).permute(2, 0, 1)[None] / 255)
    expected = whole[0].mul(255).round().permute(1, 2, 0).numpy()
    assert np.abs(sr - expected).mean() < 2


def test_precisions_that_fail_are_not_declared(tmp_path: Path) -> None:
    """spandrel says bf16 of SwinIR, whose masks stay in fp32."""
    variant, _, _ = ours.read(pickled(tmp_path, "SwinIR")[0])
    assert variant.dtypes == ("fp32",)
    variant, module, _ = ours.read(pickled(tmp_path, "OmniSR")[0])
    assert variant.dtypes == ("fp32", "bf16", "fp16")
    lr = torch.rand(1, 3, 16, 16)
    fp32, bf16 = (Model("m", variant, module, device=CPU, precision=each)(lr) for each in ("fp32", "bf16"))
    assert bf16.numpy() == pytest.approx(fp32.numpy(), abs=0.05)


def test_what_makes_no_rgb_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grey.pth"
    torch.save(network("SwiftSRGAN", {"in_channels": 1, "num_channels": 8, "num_blocks": 1}), path)
    with pytest.raises(WeightsError, match=r"grey\.pth: Swift-SRGAN turns 1 into 1 channels here"):
        ours.read(path)


def test_unknown_damaged_and_hostile_files(tmp_path: Path) -> None:
    oracle("spandrel")
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.rand(3, 3)}, path)
    with pytest.raises(WeightsError, match=r"other\.pth: spandrel does not know the network"):
        ours.read(path)
    with pytest.raises(WeightsError, match=r"No network here has exactly these 1 tensors\. spandrel knows none either"):
        load_model(path)
    torch.save({"w": torch.rand(3), "call": builtins.print}, path)
    with pytest.raises(WeightsError, match="asks to run code"):
        ours.read(path)
    file, state = pickled(tmp_path, "OmniSR")
    state["up.0.bias"][0] = torch.nan
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"NaN or infinity in up\.0\.bias"):
        ours.read(file)
    del state["residual_layer.0.residual_layer.1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"OmniSR\.pth: spandrel cannot build the network .*Missing key"):
        ours.read(file)


def test_without_spandrel_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.safetensors"
    save(path, {"fc.weight": torch.rand(3, 3)}, {})
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"pip install 'upscale-cli\[spandrel\]'"):
        ours.read(path)
    monkeypatch.setattr(ours, "installed", lambda: False)
    for load in (variant_of_file, load_model):
        with pytest.raises(WeightsError, match=r"other\.safetensors: No network here.*Install upscale-cli\[spandrel\]"):
            load(path)


def test_a_torchvision_for_another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.safetensors"
    save(path, {"fc.weight": torch.rand(3, 3)}, {})
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"torchvision does not fit torch .*torchvision::nms.*Install torch and"):
        ours.read(path)
