"""Encoders: their keys and numbers are those of the published networks, and so is what they see in a photograph."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import oracle
from torch import Tensor, nn

from upscale_cli.errors import WeightsError
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_encoder
from upscale_cli.zoo.encoders import inception, vgg
from upscale_cli.zoo.encoders.imagenet import CLASSIFIERS, MEAN, STD, Normalise, without_classifier
from upscale_cli.zoo.encoders.inception import FIDInception, between_corners
from upscale_cli.zoo.encoders.mobilenetv2 import MobileNetV2
from upscale_cli.zoo.encoders.resnet import ResNet
from upscale_cli.zoo.encoders.vgg import VGG


@pytest.fixture(scope="module")
def photo(spices: np.ndarray) -> Tensor:
    """Two pieces of a photograph, 2 x 3 x 70 x 97 in [0, 1]."""
    pieces = np.stack((spices[200:270, 300:397], spices[20:90, 40:137]))
    return torch.from_numpy(pieces).permute(0, 3, 1, 2).float() / 255


def told_apart(module: nn.Module) -> nn.Module:
    """In eval mode, with statistics and affine parameters that no layer shares with another."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            layer.weight.data.uniform_(0.8, 1.2, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
        elif isinstance(layer, nn.Conv2d):
            deviation = (2 / layer.weight[0].numel()) ** 0.5
            layer.weight.data.normal_(0, deviation, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(0, 0.1, generator=generator)
    return module.eval()


def published(name: str) -> Any:
    """timm's network of that name, with weights of its own; its classifier, 500 MB for VGG, has none."""
    timm = oracle("timm")
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    for part_name, part in network.named_children():
        if not f"{part_name}.".startswith(CLASSIFIERS):
            part.to_empty(device="cpu")
    return told_apart(network)


def loaded(module: nn.Module, reference: nn.Module) -> nn.Module:
    """`module` with exactly the features of `reference`."""
    module.load_state_dict(without_classifier(reference.state_dict()), strict=True)
    return module.eval()


def normalised(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def assert_agree(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 0.1
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("encoder", "parameters", "tensors", "keys"),
    [
        (ResNet, 11_176_512, 120, ("conv1.weight", "bn1.running_var", "layer4.0.downsample.1.bias")),
        (MobileNetV2, 2_223_872, 312, ("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.5.2.bn3.running_mean")),
        (lambda: VGG(depth=16, taps=vgg.LPIPS_TAPS), 14_714_688, 26, ("features.0.weight", "features.28.bias")),
        (lambda: VGG(depth=19, taps=vgg.ESRGAN_TAPS), 20_024_384, 32, ("features.0.weight", "features.34.bias")),
        (FIDInception, 21_785_568, 564, ("Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch3x3dbl_3b.bn.running_var")),
    ],
    ids=["resnet18", "mobilenetv2", "vgg16", "vgg19", "inception"],
)
def test_numbers_and_names_are_the_published_ones(
    encoder: type[nn.Module], parameters: int, tensors: int, keys: tuple[str, ...]
) -> None:
    with torch.device("meta"):
        module = encoder()
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    state = module.state_dict()
    assert len(state) == tensors
    assert set(keys) <= state.keys()
    classifier = {f"{name}.weight": torch.empty(0) for name in ("fc", "classifier", "head.fc", "pre_logits.fc1")}
    assert without_classifier(state | classifier).keys() == state.keys()


def test_resnet18_sees_what_timm_does(photo: Tensor) -> None:
    reference = published("resnet18")
    assert len(reference.state_dict()) == 122
    with torch.inference_mode():
        features = reference.act1(reference.bn1(reference.conv1(normalised(photo))))
        theirs = [features]
        features = reference.maxpool(features)
        for stage in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
            features = stage(features)
            theirs.append(features)
        ours = loaded(ResNet(), reference)(photo)
    for mine, other in zip(ours, theirs, strict=True):
        assert_agree(mine, other)


def test_mobilenetv2_sees_what_timm_does(photo: Tensor) -> None:
    reference = published("mobilenetv2_100")
    with torch.inference_mode():
        assert_agree(loaded(MobileNetV2(), reference)(photo), reference.forward_features(normalised(photo)))


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg_names_what_timm_sees(depth: Literal[16, 19], photo: Tensor) -> None:
    reference = published(f"vgg{depth}")
    taps = (*vgg.LPIPS_TAPS, *vgg.REAL_ESRGAN_TAPS, "pool5") if depth == 19 else (*vgg.LPIPS_TAPS, "conv5_3", "pool5")
    ours = loaded(VGG(depth=depth, taps=taps), reference)(photo)
    assert ours.keys() == set(taps)
    features, block, number = normalised(photo), 1, 0
    with torch.inference_mode():
        for layer in reference.features:
            features = layer(features.clone())  # its ReLU works in place
            number += isinstance(layer, nn.Conv2d)
            kind = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool"}[type(layer)]
            name = f"pool{block}" if kind == "pool" else f"{kind}{block}_{number}"
            if name in ours:
                assert_agree(ours[name], features)
            if kind == "pool":
                block, number = block + 1, 0


@pytest.fixture(scope="module")
def inception_state() -> dict[str, Tensor]:
    """A state dict of the FID network as it is published, with its 1008 classes."""
    with torch.random.fork_rng():
        state = told_apart(FIDInception()).state_dict()
    return state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


def test_the_fid_network_is_that_of_pytorch_fid(
    inception_state: dict[str, Tensor], photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = oracle("pytorch_fid.inception")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_, **__: inception_state)
    reference = module.InceptionV3().eval()
    ours = FIDInception()
    ours.load_state_dict(without_classifier(inception_state), strict=True)
    with torch.inference_mode():
        assert_agree(ours(photo), reference(photo)[0][..., 0, 0])


def test_the_fid_network_resizes_as_tensorflow_on_request(
    inception_state: dict[str, Tensor], photo: Tensor, tmp_path: Path
) -> None:
    module = oracle("torch_fidelity.feature_extractor_inceptionv3")
    torch.save(inception_state, tmp_path / "inception.pth")
    reference = module.FeatureExtractorInceptionV3("fid", ["2048"], str(tmp_path / "inception.pth"))
    ours = FIDInception(protocol="tensorflow")
    ours.load_state_dict(without_classifier(inception_state), strict=True)
    with torch.inference_mode():
        (theirs,) = reference((photo * 255).round().byte())
        assert_agree(ours(photo), theirs)


def test_between_corners_starts_at_the_first_pixel_and_repeats_the_last() -> None:
    row = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert between_corners(row, 4)[0, 0].tolist() == [[0, 0.5, 1, 1]] * 4
    assert between_corners(torch.full((1, 3, 1, 5), 0.3), 7).numpy() == pytest.approx(0.3)


def test_what_lies_outside_does_not_count_in_an_average() -> None:
    pooled = inception._average(torch.ones(1, 1, 3, 3))
    assert pooled.tolist() == torch.ones(1, 1, 3, 3).tolist()


def test_a_score_network_cannot_be_trained(photo: Tensor) -> None:
    network = FIDInception().train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network(photo[:1, :, :1, :1]).shape == (1, 2048)


def test_a_perceptual_loss_moves_the_picture_and_not_the_weights(photo: Tensor) -> None:
    network = VGG(depth=19, taps=vgg.REAL_ESRGAN_TAPS)
    image = photo[..., :32, :32].clone().requires_grad_()
    target = network(photo[..., 8:40, 8:40])
    loss = sum((F.l1_loss(seen, target[name]) for name, seen in network(image).items()), torch.zeros(()))
    loss.backward()
    assert image.grad is not None
    assert image.grad.abs().amax((1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_taps_stand_before_or_behind_the_activation(photo: Tensor) -> None:
    seen = VGG(depth=16, taps=("conv3_3", "relu3_3"))(photo)
    assert seen["conv3_3"].min() < 0
    assert torch.equal(seen["relu3_3"], seen["conv3_3"].relu())


def test_nothing_behind_the_last_tap_runs() -> None:
    """A single pixel has no room for a pooling."""
    network = VGG(depth=16, taps=("relu1_2",))
    assert network(torch.rand(1, 3, 1, 1))["relu1_2"].shape == (1, 64, 1, 1)


@pytest.mark.parametrize("taps", [("relu6_1",), ("relu1_2", "fc6"), ()])
def test_taps_that_are_not_there_are_refused(taps: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="VGG16 has no layers"):
        VGG(depth=16, taps=taps)


def test_imagenet_normalisation_in_any_precision(photo: Tensor) -> None:
    normalise = Normalise()
    assert normalise(photo).numpy() == pytest.approx(normalised(photo).numpy())
    assert normalise.state_dict() == {}
    assert normalise.to(torch.bfloat16)(photo).dtype == torch.float32


@pytest.mark.parametrize("encoder", [ResNet, MobileNetV2], ids=["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("side", [1, 5, 33])
def test_an_encoder_takes_any_size_and_untrained_lets_the_picture_through(
    encoder: type[nn.Module], side: int, photo: Tensor
) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        features = encoder().eval()(photo[..., :side, :side])
    last = features[-1] if isinstance(features, tuple) else features
    assert last.shape[-1] == -(-side // 32)
    if side > 32:  # of a few pixels most of what a kernel sees is the black around them
        assert 0.05 < last.std() < 50


# Their weights


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_encoder_is_filled_from_a_file_without_its_classifier(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = ResNet(channels=4, blocks=(1, 1, 1, 1))
    state = {**trained.state_dict(), "fc.weight": torch.rand(10, 32), "fc.bias": torch.rand(10)}
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        formats.save(path, state, {})
    other = ResNet(channels=4, blocks=(1, 1, 1, 1))
    load_encoder(other, str(path))
    for key, value in trained.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    with pytest.raises(WeightsError, match=r"do not fit the encoder .*\[4, 3, 7, 7\] instead of \[8, 3, 7, 7\]"):
        load_encoder(ResNet(channels=8, blocks=(1, 1, 1, 1)), str(path))


def test_an_encoder_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pth does not exist. Give a weights file, or an encoder of"):
        load_encoder(ResNet(), "nothing.pth")
    with pytest.raises(WeightsError, match=r"No file of the encoder vgg19 is pinned \(.*vgg19-dcbb9e9d.pth"):
        load_encoder(VGG(depth=19, taps=("conv1_1",)), "vgg19")
    with pytest.raises(WeightsError, match=r"vgg16 is not on this machine .*553.4 MB.*upscale models fetch vgg16"):
        load_encoder(VGG(depth=16, taps=("conv1_1",)), "vgg16", offline=True)
