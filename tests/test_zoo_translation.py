"""Networks on a picture enlarged before, and the one that translates: what each adds, what is frozen, what is known."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.zoo import cyclegan, mobilenetv2_decoder, resnet18_unet, simplecnn
from upscale_cli.zoo.cyclegan import Generator, PatchDiscriminator
from upscale_cli.zoo.mobilenetv2_decoder import MobileNetV2Decoder
from upscale_cli.zoo.preupsampled import Bicubic, padded
from upscale_cli.zoo.resnet18_unet import ResNet18UNet
from upscale_cli.zoo.simplecnn import SimpleCNN

PREUPSAMPLED = (simplecnn, mobilenetv2_decoder, resnet18_unet)
TABLE = tuple(variant for file in (*PREUPSAMPLED, cyclegan) for variant in file.VARIANTS)


@pytest.fixture(scope="module")
def photo(spices: np.ndarray) -> Tensor:
    """A piece of a photograph, 1 x 3 x 37 x 45 in [0, 1]."""
    return torch.from_numpy(spices[200:237, 300:345].copy()).permute(2, 0, 1)[None].float() / 255


def silent(conv: nn.Module) -> None:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


def learning(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_bicubic_is_that_of_the_zoo_in_every_precision(photo: Tensor) -> None:
    for scale in (2, 3, 4):
        wanted = zoo.find(f"bicubic/x{scale}").build()(photo)
        enlarge = Bicubic(scale=scale)
        assert torch.equal(enlarge(photo), wanted)
        assert torch.equal(enlarge.to(torch.bfloat16)(photo), wanted)
        assert enlarge(photo.half()).dtype == torch.half
        assert enlarge.state_dict() == {}


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (13, 32)])
def test_padding_repeats_the_rim(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    wide = padded(image, 4, least=8)
    assert all(side % 4 == 0 and old <= side < max(old + 4, 9) for side, old in zip(wide.shape[-2:], size, strict=True))
    assert torch.equal(wide[..., : size[0], : size[1]], image)
    assert torch.equal(wide[..., -1, -1], image[..., -1, -1])


@pytest.mark.parametrize(
    ("build", "last", "share"),
    [
        (SimpleCNN, "conv3", 1.0),
        (MobileNetV2Decoder, "decoder.4", 0.5),
        (ResNet18UNet, "tail", 1.0),
    ],
)
@pytest.mark.parametrize("scale", [2, 4])
def test_with_a_silent_last_layer_the_enlarged_picture_remains(
    build: Callable[..., nn.Module], last: str, share: float, scale: int, photo: Tensor
) -> None:
    module = build(scale=scale).eval()
    silent(module.get_submodule(last))
    with torch.inference_mode():
        assert torch.equal(module(photo), share * zoo.find(f"bicubic/x{scale}").build()(photo))
        # The picture never passes the narrow precision of the weights.
        assert torch.equal(module.to(torch.bfloat16)(photo), share * zoo.find(f"bicubic/x{scale}").build()(photo))


@pytest.mark.parametrize("file", PREUPSAMPLED, ids=lambda file: file.ARCHITECTURE.name)
def test_one_set_of_weights_fits_every_scale(file: ModuleType, photo: Tensor) -> None:
    two, four = (next(row for row in file.VARIANTS if row.name.endswith(f"/x{scale}")).build() for scale in (2, 4))
    four.load_state_dict(two.state_dict(), strict=True)
    two.enlarge = Bicubic(scale=4)
    with torch.inference_mode():
        assert torch.equal(two.eval()(photo), four.eval()(photo))


def test_simplecnn_has_the_parameters_it_promises_and_learns(photo: Tensor) -> None:
    torch.manual_seed(0)
    module = SimpleCNN(scale=2)
    assert learning(module) == 21_123
    assert [shape[:2] for key, shape in shapes(module).items() if "weight" in key] == [(64, 3), (32, 64), (3, 32)]
    hr = photo[..., :32, :32]
    lr = F.interpolate(hr, scale_factor=0.5, mode="bicubic", antialias=True)
    floor = F.mse_loss(Bicubic(scale=2)(lr), hr)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    loss = floor
    for _ in range(200):
        optimizer.zero_grad()
        loss = F.mse_loss(module(lr), hr)
        loss.backward()
        optimizer.step()
    assert loss < 0.9 * floor


def test_mobilenetv2_decoder_is_what_its_paper_order_gives(photo: Tensor) -> None:
    """All 1280 features enlarged before the first convolution: the same picture, ten times the memory."""
    torch.manual_seed(0)
    module = MobileNetV2Decoder(scale=2).eval()
    lr = photo[..., :32, :32]
    with torch.inference_mode():
        image = module.enlarge(lr)
        features = F.interpolate(module.encoder(image), size=(64, 64), mode="bilinear")
        assert features.shape[1] == 1280
        wanted = 0.5 * image + module.decoder(features)
        assert module(lr).numpy() == pytest.approx(wanted.numpy(), abs=1e-5)


def test_features_of_a_padded_picture_lie_over_their_pixels(photo: Tensor) -> None:
    """What is padded to 32 is cropped again: the left of a wide picture does not move with its width."""
    torch.manual_seed(0)
    for module in (MobileNetV2Decoder(scale=2).eval(), ResNet18UNet(scale=2).eval()):
        wide = F.pad(photo[..., :17, :17], (0, 15, 0, 15), mode="replicate")
        with torch.inference_mode():
            narrow, whole = module(photo[..., :17, :17]), module(wide)[..., :34, :34]
        # Bicubic mirrors at a rim; that is all that differs.
        assert (narrow - whole).abs().mean() < 2e-2


def stepped(module: nn.Module, lr: Tensor) -> set[str]:
    """Keys of the state dict that one step of training changes."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.Adam(module.train().parameters(), lr=1e-3)
    module(lr).square().mean().backward()
    optimizer.step()
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def test_the_encoder_of_mobilenetv2_is_frozen_while_training(photo: Tensor) -> None:
    torch.manual_seed(0)
    module = MobileNetV2Decoder(scale=2)
    assert learning(module) == 239_491
    changed = stepped(module, photo)
    assert changed == {f"decoder.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")}
    assert module.training
    assert module.decoder.training
    assert not any(part.training for part in module.encoder.modules())


def test_half_the_encoder_of_the_unet_learns(photo: Tensor) -> None:
    torch.manual_seed(0)
    module = ResNet18UNet(scale=2)
    assert learning(module) == 12_452_771
    assert learning(module.decoder) + learning(module.tail) == 1_959_331
    changed = stepped(module, photo)
    frozen = ("encoder.conv1.", "encoder.bn1.", "encoder.layer1.", "encoder.layer2.")
    for key in module.state_dict():
        statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert (key in changed) == (not statistic and not key.startswith(frozen)), key


def test_the_unet_goes_up_beside_what_it_went_down(photo: Tensor) -> None:
    """Its structure, spelled out."""
    torch.manual_seed(0)
    module = ResNet18UNet(scale=2).eval()
    lr = photo[..., :32, :32]
    with torch.inference_mode():
        image = module.enlarge(lr)
        _, first, second, third, fourth = module.encoder(image)
        up = [lambda x, conv=conv: conv(x).relu() for conv in module.decoder]
        features = torch.cat((up[0](fourth), third), 1)
        features = torch.cat((up[1](features), second), 1)
        features = torch.cat((up[2](features), first), 1)
        wanted = image + module.tail(up[4](up[3](features)))
        assert torch.equal(module(lr), wanted)


def generator_by_the_paper(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """c7s1-64, d128, d256, nine R256, u128, u64, c7s1-3 on [-1, 1], written from the paper and the published keys."""

    def conv(x: Tensor, key: str, mirrored: int = 0, **how: int) -> Tensor:
        x = F.pad(x, [mirrored] * 4, mode="reflect") if mirrored else x
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], **how)

    def norm(x: Tensor) -> Tensor:
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        return (x - mean) / (var + 1e-5).sqrt()

    x = norm(conv(image, "model.1", 3)).relu()
    x = norm(conv(x, "model.4", stride=2, padding=1)).relu()
    x = norm(conv(x, "model.7", stride=2, padding=1)).relu()
    for block in range(10, 19):
        inner = norm(conv(x, f"model.{block}.conv_block.1", 1)).relu()
        x = x + norm(conv(inner, f"model.{block}.conv_block.5", 1))
    for key in ("model.19", "model.22"):
        weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        x = norm(F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)).relu()
    return conv(x, "model.26", 3).tanh()


def test_cyclegan_is_the_generator_of_the_paper(photo: Tensor) -> None:
    torch.manual_seed(0)
    module = Generator().eval()
    image = photo[..., :24, :28]
    with torch.inference_mode():
        wanted = (generator_by_the_paper(module.state_dict(), image * 2 - 1) + 1) / 2
        assert wanted.std() > 0.01
        assert module(image).numpy() == pytest.approx(wanted.numpy(), abs=1e-5)


def test_cyclegan_x4_contains_x1(photo: Tensor) -> None:
    one, four = Generator(), Generator(scale=4)
    result = four.load_state_dict(one.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == [f"upsample.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")]
    assert not zoo.find("cyclegan/x1").tileable
    assert zoo.find("cyclegan/x1").task == "restore"
    with torch.inference_mode():
        sr = Generator(scale=4, channels=8, blocks=1).eval()(photo[..., :1, :7])
    assert sr.shape == (1, 3, 4, 28)
    assert 0 < sr.min() < sr.max() < 1


def test_a_discriminator_judges_patches_of_70_pixels() -> None:
    network = PatchDiscriminator()
    assert learning(network) == 2_764_737
    weights = [key for key in network.state_dict() if key.endswith("weight")]
    assert weights == [f"model.{layer}.weight" for layer in (0, 2, 5, 8, 11)]
    assert network(torch.rand(2, 3, 256, 256)).shape == (2, 1, 30, 30)
    assert network(torch.rand(1, 3, 24, 24)).shape == (1, 1, 1, 1)
    narrow = PatchDiscriminator(channels=2)
    for layer in (3, 6, 9):  # what normalises sees everything
        narrow.model[layer] = nn.Identity()
    image = torch.rand(1, 3, 160, 160, requires_grad=True)
    scores = narrow(image)
    scores[0, 0, 8, 8].backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70


@pytest.mark.parametrize("variant", TABLE, ids=lambda variant: variant.name)
def test_a_table_row_is_known_by_its_shapes(variant: zoo.Variant) -> None:
    with torch.device("meta"):
        module = variant.build()
    known = zoo.recognise(shapes(module))
    assert known is not None
    scale_free = variant.architecture in [file.ARCHITECTURE.name for file in PREUPSAMPLED]
    assert known[0].name == (variant.name.replace("/x3", "/x2").replace("/x4", "/x2") if scale_free else variant.name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (SimpleCNN(scale=2, channels=(64, 32), kernels=(9, 5, 5)), "simplecnn/x2-64-32-k955"),
        (MobileNetV2Decoder(scale=2, channels=(16, 8)), "mobilenetv2/x2-16-8"),
        (ResNet18UNet(scale=4, channels=8, blocks=(1, 2, 1, 1)), "resnet18-unet/x2-8f-1211"),
        (Generator(scale=1, channels=8, blocks=6), "cyclegan/x1-8f-6b"),
        (Generator(scale=3, channels=4, blocks=2), "cyclegan/x3-4f-2b"),
    ],
    ids=["simplecnn", "mobilenetv2", "unet", "cyclegan-6", "cyclegan-x3"],
)
def test_other_hyperparameters_are_read_from_the_shapes(module: nn.Module, name: str) -> None:
    known = zoo.recognise(shapes(module))
    assert known is not None
    variant = known[0]
    assert variant.name == name
    assert variant.parameters == sum(parameter.numel() for parameter in module.parameters())
    variant.build().load_state_dict(module.state_dict(), strict=True)
    untracked = {key: shape for key, shape in shapes(module).items() if not key.endswith("num_batches_tracked")}
    assert zoo.recognise(untracked) is not None
    key = next(iter(untracked))
    for wrong in (
        untracked | {key: torch.Size((10**9, 3, 3, 3))},
        untracked | {key: torch.Size(())},
        untracked | {"stranger.weight": torch.Size((1,))},
        {other: shape for other, shape in untracked.items() if other != key},
    ):
        assert zoo.recognise(wrong) is None


def test_cyclegan_in_older_layouts() -> None:
    """Statistics that nothing reads, as in files of 2017, and blocks trained with dropout."""
    module = Generator(channels=4, blocks=2)
    old = shapes(module)
    for layer in ("model.2", "model.10.conv_block.2", "model.10.conv_block.7"):
        old |= {f"{layer}.running_mean": torch.Size((4,)), f"{layer}.num_batches_tracked": torch.Size(())}
    old = {key.replace("conv_block.5", "conv_block.6"): shape for key, shape in old.items()}
    known = zoo.recognise(old)
    assert known is not None
    variant, names = known
    assert variant.name == "cyclegan/x1-4f-2b"
    assert set(names.values()) == module.state_dict().keys()
    assert names["model.11.conv_block.6.weight"] == "model.11.conv_block.5.weight"
    assert cyclegan.translate(["model.0.weight"]) is None


def test_a_generator_deeper_than_any_is_not_built() -> None:
    endless = {f"model.{10 + number}.conv_block.1.weight": torch.Size((256, 256, 3, 3)) for number in range(10_000)}
    assert zoo.recognise({"model.1.weight": torch.Size((64, 3, 7, 7))} | endless) is None
