"""Convolutional networks against others' code and published weights; and how a state dict without a name is known."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from oracle import oracle
from PIL import Image
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.metrics.catalog import score
from upscale_cli.metrics.protocol import Protocol
from upscale_cli.weights import ncnn
from upscale_cli.zoo import edsr, enhance_residual, improved, lightweight, lut3d, rdn, rrdb, rrdn, srresnet, srvgg
from upscale_cli.zoo.edsr import EDSR
from upscale_cli.zoo.rdn import RDN
from upscale_cli.zoo.rrdb import RRDBNet
from upscale_cli.zoo.rrdn import RRDN
from upscale_cli.zoo.srgan import Discriminator, UNetDiscriminatorSN
from upscale_cli.zoo.srvgg import SRVGGNetCompact

FILES = (edsr, enhance_residual, improved, lightweight, lut3d, rdn, rrdb, rrdn, srresnet, srvgg)
TABLE = tuple(variant for file in FILES for variant in file.VARIANTS)
State = Mapping[str, Tensor]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


def empty(variant: zoo.Variant) -> nn.Module:
    with torch.device("meta"):
        return variant.build()


def load(name: str, state: State) -> nn.Module:
    module = zoo.find(name).build().eval()
    module.load_state_dict(state, strict=True)
    return module


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def enlarge(module: nn.Module, image: np.ndarray) -> np.ndarray:
    """H x W x 3 8-bit to sH x sW x 3 8-bit."""
    lr = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return module(lr)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def set5_psnr(module: nn.Module, scale: int, set5: Path) -> float:
    """Mean luma PSNR with low resolution by Pillow's bicubic."""
    found = []
    for path in sorted(set5.glob("*.png")):
        hr = read(path)
        height, width = hr.shape[0] // scale, hr.shape[1] // scale
        hr = hr[: height * scale, : width * scale]
        lr = np.asarray(Image.fromarray(hr).resize((width, height), Image.Resampling.BICUBIC))
        found.append(score(enlarge(module, lr), hr, Protocol(crop_border=scale))["psnr_y"])
    assert len(found) == 5
    return fmean(found)


@pytest.fixture(scope="module")
def photo(spices: np.ndarray) -> Tensor:
    """A piece of a photograph, 1 x 3 x 20 x 28 in [0, 1]."""
    return torch.from_numpy(spices[200:220, 300:328].copy()).permute(2, 0, 1)[None].float() / 255


# --- what others make of the same weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_rrdb_is_spandrels(scale: int, photo: Tensor) -> None:
    """Spandrel turns the keys into the first ESRGAN's, and we turn them back."""
    torch.manual_seed(0)
    ours = RRDBNet(scale=scale, blocks=2, channels=16, unshuffle={1: 4, 2: 2}.get(scale, 1)).eval()
    theirs = oracle("spandrel.architectures.ESRGAN").ESRGANArch().load(ours.state_dict())
    assert theirs.scale == scale
    with torch.inference_mode():
        assert ours(photo).numpy() == pytest.approx(theirs.model(photo).numpy(), abs=1e-5)
    old = theirs.model.state_dict()
    assert "model.0.weight" in old
    variant, names = known({key: value.shape for key, value in old.items()})
    back = variant.build().eval()
    back.load_state_dict({names[key]: value for key, value in old.items()}, strict=True)
    with torch.inference_mode():
        assert torch.equal(back(photo), ours(photo))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_srvgg_is_spandrels(scale: int, photo: Tensor) -> None:
    torch.manual_seed(0)
    ours = SRVGGNetCompact(scale=scale, convs=3, channels=16).eval()
    theirs = oracle("spandrel.architectures.Compact").CompactArch().load(ours.state_dict())
    assert theirs.scale == scale
    with torch.inference_mode():
        assert ours(photo).numpy() == pytest.approx(theirs.model(photo).numpy(), abs=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_is_super_images_without_means(scale: int, photo: Tensor) -> None:
    """Its files have our keys and mean layers which its network never applies."""
    theirs = oracle("super_image.models.edsr.modeling_edsr").EdsrModel(
        oracle("super_image.models.edsr.configuration_edsr").EdsrConfig(scale=scale)
    )
    state = theirs.state_dict()
    variant, names = known({key: value.shape for key, value in state.items()})
    assert variant is zoo.find(f"edsr/x{scale}")
    assert dict(names) == {key: key for key in state}
    module = load(variant.name, state | {f"{end}_mean.bias": torch.zeros(3) for end in ("sub", "add")})
    with torch.inference_mode():
        assert module(photo).numpy() == pytest.approx(theirs.eval()(photo).numpy(), abs=1e-5)


# --- published weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "folder", "name"),
    [
        ("realesr-general-x4v3", "realesr-general-x4v3", "srvgg/x4"),
        ("4xLSDIRCompactC3", "4xLSDIRCompactC3", "srvgg/x4-16c"),
        ("realesr-animevideov3-x4", "realesr-animevideov3", "srvgg/x4-16c"),
    ],
)
def test_srvgg_gives_the_published_picture(stem: str, folder: str, name: str, oracles: Path) -> None:
    state, _ = ncnn.read(oracles / folder / f"{stem}.bin")
    module = load(name, state)
    reference = oracles / "reference"
    sr = enlarge(module, read(reference / "img_003_lr_x4.png"))
    assert np.abs(sr.astype(int) - read(reference / f"img_003_{folder}.png")).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "psnr"), [(2, 35.48), (4, 30.66)])
def test_srgans_checkpoint_is_known_and_scores_as_published(scale: int, psnr: float, oracles: Path, set5: Path) -> None:
    path = oracles / "srgan-leftthomas" / f"netG_epoch_{scale}_100.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    variant, _ = known({key: value.shape for key, value in state.items()})
    assert variant is zoo.find(f"srresnet/x{scale}-5b")
    assert set5_psnr(load(variant.name, state), scale, set5) == pytest.approx(psnr, abs=0.02)


@pytest.mark.slow
def test_rdn_gives_the_published_picture_and_score(oracles: Path, set5: Path) -> None:
    state = dict(rdn_from_idealo(oracles / "rdn-psnr-small-x2"))
    variant, _ = known({key: value.shape for key, value in state.items()})
    assert variant is zoo.find("rdn-small/x2")
    module = load(variant.name, state)
    reference = oracles / "reference"
    sr = enlarge(module, read(reference / "img_003_lr_x2.png"))
    assert np.abs(sr.astype(int) - read(reference / "img_003_rdn-psnr-small-x2.png")).max() <= 1
    assert set5_psnr(module, 2, set5) == pytest.approx(35.99, abs=0.02)


def test_rrdn_gives_the_published_picture(oracles: Path) -> None:
    state = dict(rrdn_from_idealo(oracles / "rrdn-gans-x4"))
    variant, _ = known({key: value.shape for key, value in state.items()})
    assert variant is zoo.find("rrdn/x4")
    reference = oracles / "reference"
    sr = enlarge(load(variant.name, state), read(reference / "img_003_lr_x4.png"))
    assert np.abs(sr.astype(int) - read(reference / "img_003_rrdn-gans-x4.png")).max() <= 1


def tensorflow_js(folder: Path) -> Iterator[tuple[list[str], str, Tensor]]:
    """Layer name in words, `weight` or `bias`, and values as torch has them, of a quantised layers model."""
    data = (folder / "group1-shard1of1.bin").read_bytes()
    at = 0
    for entry in json.loads((folder / "model.json").read_text())["weightsManifest"][0]["weights"]:
        stored, count = entry["quantization"], int(np.prod(entry["shape"]))
        values = np.frombuffer(data, np.uint8, count, at).reshape(entry["shape"]) * stored["scale"] + stored["min"]
        at += count
        layer, kind = entry["name"].split("/")
        order = (3, 2, 0, 1) if kind == "kernel" else (0,)
        tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(order), np.float32))
        yield layer.split("_"), "weight" if kind == "kernel" else "bias", tensor
    assert at == len(data)


def rdn_from_idealo(folder: Path) -> Iterator[tuple[str, Tensor]]:
    names = {"F m1": "sfe1", "F 0": "sfe2", "GFF 1": "gff.0", "GFF 2": "gff.1", "SR": "output"}
    names |= {f"UPN{n}": f"upscale.{2 * n - 2}" for n in (1, 2, 3)}
    for words, kind, tensor in tensorflow_js(folder):
        match words:
            case ["F", block, layer]:
                name = f"rdbs.{int(block) - 1}.layers.{int(layer) - 1}.conv"
            case ["LFF", block]:
                name = f"rdbs.{int(block) - 1}.lff"
            case _:
                name = names[" ".join(words)]
        yield f"{name}.{kind}", tensor


def rrdn_from_idealo(folder: Path) -> Iterator[tuple[str, Tensor]]:
    names = {"Pre": "conv_first", "post": "conv_body", "PreShuffle": "conv_shuffle", "SR": "conv_last"}
    for words, kind, tensor in tensorflow_js(folder):
        match words:
            case ["F", block, dense, conv]:
                name = f"body.{int(block) - 1}.rdb{dense}.conv{conv}"
            case ["LFF", block, dense]:
                name = f"body.{int(block) - 1}.rdb{dense}.conv5"
            case _:
                name = names[words[0]]
        # From colours counted fastest to colours counted slowest.
        shuffled = tensor.unflatten(0, (16, 3)).transpose(0, 1).flatten(0, 1) if name == "conv_shuffle" else tensor
        yield f"{name}.{kind}", shuffled


# --- networks without a name -----------------------------------------------------------------------------------------


def known(found: Mapping[str, torch.Size]) -> tuple[zoo.Variant, Mapping[str, str]]:
    result = zoo.recognise(found)
    assert result is not None
    return result


@pytest.mark.parametrize("variant", TABLE, ids=lambda variant: variant.name)
def test_every_row_is_known_by_its_tensors(variant: zoo.Variant) -> None:
    assert known(shapes(empty(variant)))[0] is variant


OTHERS = (
    (partial(RRDBNet, scale=4, blocks=3, channels=24, growth=8), "rrdb/x4-24f-3b-8g", 49),
    (partial(RRDBNet, scale=2, blocks=1, channels=8, unshuffle=2), "rrdb/x2-8f-1b-fold2", 38),
    (partial(RRDBNet, scale=2, blocks=1, channels=8), "rrdb/x2-8f-1b", 19),
    (partial(RRDBNet, scale=1, blocks=1, channels=8), "rrdb/x1-8f-1b", 19),
    (partial(SRVGGNetCompact, scale=2, convs=32), "srvgg/x2-64f-32c", 34),
    (partial(SRVGGNetCompact, scale=8, convs=60, channels=4), "srvgg/x8-4f-60c", 40),
    (partial(RDN, scale=3, blocks=2, layers=3, channels=8, growth=4), "rdn/x3-8f-2b-3l", 24),
    (partial(RDN, scale=4, blocks=2, layers=1, channels=8, head="nearest"), "rdn-small/x4-8f-2b-1l", 12),
    (partial(RRDN, scale=3, blocks=2, channels=8), "rrdn/x3-8f-2b", 16),
    (partial(EDSR, scale=3, blocks=4, channels=24), "edsr/x3-24f-4b", 13),
    (partial(EDSR, scale=2, blocks=1, channels=256, residual_scale=0.1), "edsr/x2-256f-1b", 7),
    (partial(lightweight.Lightweight, scale=3, channels=16, layers=2), "lightweight/x3-16f-2l", 4),
    (partial(improved.Improved, scale=3, channels=16, layers=8), "improved/x3-16f-8l", 11),
    (partial(srresnet.SRResNet, scale=8, blocks=5, signed_input=False), "srresnet/x8-64f-5b", 18),
)


@pytest.mark.parametrize(("build", "name", "margin"), OTHERS, ids=[name for _, name, _ in OTHERS])
def test_numbers_that_no_row_has_are_read_from_the_shapes(
    build: Callable[[], nn.Module], name: str, margin: int
) -> None:
    torch.manual_seed(0)
    module = build()
    variant, _ = known(shapes(module))
    assert (variant.name, variant.margin) == (name, margin)
    assert variant.parameters == sum(parameter.numel() for parameter in module.parameters())
    again = variant.build().eval()
    again.load_state_dict(module.state_dict(), strict=True)
    lr = torch.rand(1, 3, 4, 8)
    with torch.inference_mode():
        sr = again(lr)
        assert torch.equal(sr, module.eval()(lr))
    assert sr.shape[-1] == 8 * variant.scale


def test_the_second_layout_of_esrgan() -> None:
    """BSRGAN and RealSR: other words for the same."""
    state = shapes(RRDBNet(scale=4, blocks=2, channels=8))
    words = {"conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_up": "upconv", "body": "RRDB_trunk", "rdb": "RDB"}

    def second(key: str) -> str:
        for ours, theirs in words.items():
            key = key.replace(ours, theirs)
        return key

    variant, names = known({second(key): shape for key, shape in state.items()})
    assert variant.name == "rrdb/x4-8f-2b"
    assert dict(names) == {second(key): key for key in state}


def test_counters_of_batches_may_be_missing_and_nothing_else() -> None:
    found = shapes(empty(zoo.find("srresnet/x2-tiny")))
    old = {key: shape for key, shape in found.items() if "num_batches_tracked" not in key}
    assert len(old) < len(found)
    assert known(old)[0] is zoo.find("srresnet/x2-tiny")
    for key in old:
        assert zoo.recognise({other: shape for other, shape in old.items() if other != key}) is None, key
    assert zoo.recognise(old | {"extra": torch.Size([1])}) is None


TINY = tuple(variant for variant in TABLE if variant.name.endswith("-tiny"))


STRANGE = tuple(
    map(
        torch.Size,
        [(), (0,), (10**9,), (10**9, 10**9, 3, 3), (0, 10**9, 3, 3), (3,) * 50, (5, 7, 3, 3), (4096, 4096, 3, 3)],
    )
)


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_a_strangers_shapes_are_refused(variant: zoo.Variant) -> None:
    """One tensor of another shape, and all of them; none is large enough to be waited for."""
    found = shapes(empty(variant))
    for strange in STRANGE:
        assert zoo.recognise(dict.fromkeys(found, strange)) is None
    for key, strange in zip(found, cycle(STRANGE), strict=False):
        if not key.endswith("num_batches_tracked"):
            assert zoo.recognise(found | {key: strange}) is None, (key, strange)


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_hundreds_of_blocks_are_refused(variant: zoo.Variant) -> None:
    found = shapes(empty(variant))
    many = {key.replace("1", str(n)): shape for key, shape in found.items() for n in range(1, 500)}
    many |= {key.replace("0", str(n)): shape for key, shape in found.items() for n in range(500)}
    assert zoo.recognise(many | found) is None


@pytest.mark.parametrize(
    "keys",
    [
        ("model.1.sub.0.RDB1.conv1.0.weight",),
        ("model.1.sub.0.RDB1.conv1.0.weight", "model.0.weight", "model.99999999999999999999.weight"),
        ("model.1.sub.0.RDB1.conv1.0.weight", "model.3.weight", "model.", "", ".", "weight"),
        ("RRDB_trunk.0.RDB1.conv1.weight", "HRconv", "upconv1", "RRDB_trunk.9.RDB9.conv9.weight"),
    ],
)
def test_scraps_of_an_old_layout_are_no_network(keys: tuple[str, ...]) -> None:
    assert zoo.recognise(dict.fromkeys(keys, torch.Size([8, 8, 3, 3]))) is None


# --- critics ---------------------------------------------------------------------------------------------------------


def test_srgans_discriminator() -> None:
    """5,215,425 parameters, as published; keys of eight convolutions, seven normalisations and two dense layers."""
    torch.manual_seed(0)
    critic = Discriminator()
    assert sum(parameter.numel() for parameter in critic.parameters()) == 5_215_425
    weights = [key for key in critic.state_dict() if key.endswith("weight")]
    assert weights[:3] == ["net.0.weight", "net.2.weight", "net.3.weight"]
    assert weights[-2:] == ["net.24.weight", "net.26.weight"]
    for size in ((16, 16), (17, 40)):
        assert critic(torch.rand(2, 3, *size)).shape == (2,)


def test_real_esrgans_discriminator() -> None:
    """4,376,897 parameters, as published; a logit a pixel at any size; layers of norm one."""
    torch.manual_seed(0)
    critic = UNetDiscriminatorSN()
    assert sum(parameter.numel() for parameter in critic.parameters()) == 4_376_897
    keys = critic.state_dict().keys()
    assert {"conv0.weight", "conv3.weight_orig", "conv3.weight_u", "conv3.weight_v", "conv9.bias"} <= keys
    for size in ((8, 8), (16, 24), (13, 9)):
        assert critic(torch.rand(1, 3, *size)).shape == (1, 1, *size)
    for _ in range(50):  # each call in training is a step of the power iteration
        critic(torch.rand(1, 3, 8, 8))
    weight = critic.conv8.weight.detach().flatten(1)
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("critic_class", [Discriminator, UNetDiscriminatorSN])
def test_a_critic_learns_to_tell_a_photograph_from_its_blur(
    critic_class: type[Discriminator | UNetDiscriminatorSN], spices: np.ndarray
) -> None:
    torch.manual_seed(0)
    critic = critic_class(channels=8)
    patches = [spices[y : y + 32, x : x + 32] for y in (100, 200, 300) for x in (100, 250, 400, 550)]
    real = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 255
    blurred = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1, count_include_pad=False)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(torch.cat((-critic(real), critic(blurred)))).mean()
        loss.backward()
        optimizer.step()
    assert float(critic(real).detach().mean()) > 0.3 + float(critic(blurred).detach().mean())
