"""Every metric against implementations that share nothing with it, on photographs, to 1e-4."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_oracles import STORED, Pixels, feature_sets, fill, pairs
from safetensors.torch import save_file
from torch import nn

from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.metrics import networks
from upscale_cli.metrics.catalog import METRICS, choose, score
from upscale_cli.metrics.fid import Moments, frechet_distance
from upscale_cli.metrics.gauge import Gauge, Needs
from upscale_cli.metrics.niqe import Pristine, features, niqe
from upscale_cli.metrics.perceptual import to_tensor
from upscale_cli.metrics.protocol import Comparison, NoValueError, Protocol, luma
from upscale_cli.zoo.encoders.alexnet import AlexNet
from upscale_cli.zoo.encoders.inception import FIDInception
from upscale_cli.zoo.encoders.vgg import LPIPS_TAPS, VGG

DOCUMENT = json.loads(STORED.read_text("utf-8"))
LARGE, SMALL = pairs(224, 320), pairs(96, 128)


@pytest.mark.parametrize("case", LARGE)
def test_formulas_agree_with_others(case: str) -> None:
    expected = DOCUMENT["formulas"][case]
    found = score(*LARGE[case], Protocol(crop_border=0), tuple(expected))
    assert {"psnr_y", "ssim_y", "ms_ssim_y", "delta_e", "niqe"} < expected.keys()
    for name, values in expected.items():
        for package, value in values.items():
            assert found[name] == pytest.approx(value, abs=1e-4), (name, package)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of seeded random weights, as the references had them."""
    folder = tmp_path_factory.mktemp("encoders")
    built: dict[str, nn.Module] = {
        "vgg16": VGG(depth=16, taps=LPIPS_TAPS),
        "alexnet": AlexNet(),
        "inception": FIDInception(),
    }
    for name, network in built.items():
        save_file(fill(network).state_dict(), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in built}


@pytest.mark.parametrize("name", ["lpips", "lpips_alex", "dists"])
def test_metrics_through_networks_agree_with_others(name: str, encoders: dict[str, Path]) -> None:
    gauge = METRICS[name].open(Needs("cpu", encoders))()
    values = [gauge.look(Comparison(*SMALL[case])) for case in SMALL]
    for case, value in zip(SMALL, values, strict=True):
        ((package, expected),) = DOCUMENT["networks"][case][name].items()
        assert value == pytest.approx(expected, abs=2e-6, rel=1e-3), (case, package)
    assert gauge.result() == pytest.approx(np.mean(values))
    same = next(iter(SMALL.values()))[1]
    assert gauge.look(Comparison(same, same)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(NoValueError, match="pixels a side"):
        gauge.measure(Comparison(same[:12], same[:12]))  # type: ignore[attr-defined]


def moments(vectors: np.ndarray) -> Moments:
    found = Moments()
    for vector in vectors:
        found.add(vector)
    return found


@pytest.mark.parametrize("case", ["many", "few"])
def test_frechet_distances_agree_with_others_whatever_the_rank(case: str) -> None:
    ours, theirs = (moments(each) for each in feature_sets()[case])
    assert ours.root().T @ ours.root() == pytest.approx(np.cov(feature_sets()[case][0], rowvar=False))
    for package, value in DOCUMENT["frechet"][case].items():
        assert frechet_distance(ours, theirs) == pytest.approx(value, rel=1e-6), package
    assert frechet_distance(ours, ours) == pytest.approx(0, abs=1e-4)


def test_fid_is_the_distance_of_what_inception_sees(encoders: dict[str, Path]) -> None:
    make: Callable[[], Gauge] = METRICS["fid"].open(Needs("cpu", encoders))
    gauge = make()
    assert all(np.isnan(gauge.look(Comparison(*pair))) for pair in SMALL.values())
    network = fill(FIDInception())

    def seen(pictures: list[Pixels]) -> np.ndarray:
        with torch.inference_mode():
            return np.stack([network(to_tensor(picture, torch.device("cpu")))[0].numpy() for picture in pictures])

    ours, theirs = zip(*SMALL.values(), strict=True)
    expected = frechet_distance(moments(seen(list(ours))), moments(seen(list(theirs))))
    assert gauge.result() == pytest.approx(expected, rel=1e-4)
    assert expected > 0
    assert np.isnan(make().result())


def test_niqe_tells_damage_and_needs_texture() -> None:
    whole = luma(LARGE["blurred"][1])
    blurred = luma(LARGE["blurred"][0])
    assert niqe(blurred) > niqe(whole) + 1
    assert features(whole).shape == (6, 36)
    with pytest.raises(NoValueError, match="two blocks"):
        niqe(np.full((200, 200), 90.0))
    with pytest.raises(NoValueError, match="blocks of 96 x 96"):
        niqe(whole[:95])
    own = features(np.rint(whole))
    assert niqe(whole, Pristine(own.mean(0), np.cov(own, rowvar=False))) == pytest.approx(0, abs=1e-9)


def test_weights_that_are_not_here_are_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoders: dict[str, Path]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"vgg16 is not on this machine .*--encoder vgg16=vgg16-397923af\.pth"):
        METRICS["lpips"].open(Needs(offline=True))
    with pytest.raises(WeightsError, match=r"No file of the encoder inception .*--encoder inception=pt_inception"):
        METRICS["fid"].open(Needs(offline=True))
    with pytest.raises(WeightsError, match="alexnet"):
        METRICS["lpips_alex"].open(Needs(encoders={"alexnet": encoders["vgg16"]}))


def test_what_torch_fetched_for_others_is_used_if_it_is_what_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(fill(AlexNet()).state_dict(), folder / "alexnet-owt-7be5be79.pth")
    assert networks._torch_file("alexnet") is None
    import hashlib

    digest = hashlib.sha256((folder / "alexnet-owt-7be5be79.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(networks.TORCH_FILES, "alexnet", f"alexnet-owt-{digest[:8]}.pth")
    (folder / "alexnet-owt-7be5be79.pth").rename(folder / f"alexnet-owt-{digest[:8]}.pth")
    gauge = METRICS["lpips_alex"].open(Needs("cpu", offline=True))()
    expected = DOCUMENT["networks"]["noisy"]["lpips_alex"]["lpips"]
    assert gauge.look(Comparison(*SMALL["noisy"])) == pytest.approx(expected, abs=1e-5)


def test_a_mistyped_metric_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no metric 'psnry'\. Did you mean psnr_y"):
        choose(["psnry"])
    assert [metric.name for metric in choose(["niqe", "psnr_y", "niqe"])] == ["niqe", "psnr_y"]
    assert len(choose(["all"], films=True)) == len(METRICS)
