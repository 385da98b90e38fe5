"""Channels that died in training: which they are, that the picture stays, and that they learn again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import TINY
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError
from upscale_cli.train.revive import Revived, revive
from upscale_cli.train.verb import TrainRequest, train
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module
from upscale_cli.zoo.edsr import EDSR

DEAD = [1, 4, 6]


@pytest.fixture
def pictures(spices: np.ndarray) -> list[Tensor]:
    cuts = [spices[top : top + 48, 100:148] for top in (50, 150, 250)]
    return [torch.from_numpy(cut.copy()).permute(2, 0, 1)[None].float() / 255 for cut in cuts]


def partly_dead(channels: list[int] = DEAD) -> EDSR:
    torch.manual_seed(3)
    network = zoo.find("edsr/x2-tiny").build()
    assert isinstance(network, EDSR)
    with torch.no_grad():
        first(network).bias[channels] -= 100  # type: ignore[index]
    return network


def first(network: EDSR) -> nn.Conv2d:
    convolution = network.body[0].body[0]  # type: ignore[index,union-attr]
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def shares(network: EDSR, pictures: list[Tensor]) -> Tensor:
    """Of all places, those where each channel of the block is above zero."""
    found: list[Tensor] = []
    hook = first(network).register_forward_hook(lambda _layer, _given, values: found.append((values > 0).float()))
    with torch.no_grad():
        for each in pictures:
            network(each)
    hook.remove()
    return torch.cat(found).mean((0, 2, 3))


def test_dead_channels_start_anew_and_the_picture_stays(pictures: list[Tensor]) -> None:
    network = partly_dead()
    alive = [channel for channel in range(8) if shares(network, pictures)[channel] > 0]
    assert not set(alive) & set(DEAD)
    weights = first(network).weight.clone()
    with torch.no_grad():
        before = [network(each) for each in pictures]
    assert revive(network, pictures) == Revived(8 - len(alive), 8)
    with torch.no_grad():
        after = [network(each) for each in pictures]
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(first(network).weight[alive], weights[alive])
    assert (shares(network, pictures)[DEAD] > 0.05).all(), "they are let through somewhere now"
    assert revive(network, pictures).dead == 0

    target = torch.rand(network(pictures[0]).shape)
    (network(pictures[0]) - target).abs().mean().backward()
    behind = network.body[0].body[2]  # type: ignore[index,union-attr]
    assert isinstance(behind, nn.Conv2d)
    assert behind.weight.grad is not None
    assert (behind.weight.grad[:, DEAD].abs().amax((0, 2, 3)) > 0).all(), "and the layer behind learns to read them"


@pytest.mark.parametrize("name", ["improved/x2-tiny", "enhance-residual/x1-tiny"], ids=["plain", "BatchNorm"])
def test_a_network_without_such_blocks_keeps_what_it_has(name: str, pictures: list[Tensor]) -> None:
    network = zoo.find(name).build().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert revive(network, pictures) == Revived(0, 0)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert network.training


def test_a_training_revives_what_it_starts_from(tmp_path: Path, spices: np.ndarray) -> None:
    Image.fromarray(spices[:120, :160]).save(tmp_path / "photo.png")
    formats.save(tmp_path / "dead.safetensors", partly_dead(list(range(8))).state_dict(), {"variant": "edsr/x2-tiny"})
    config = dataclasses.replace(
        TINY, variant="edsr/x2-tiny", init=str(tmp_path / "dead.safetensors"), revive=True, steps=3
    )
    notes: list[str] = []
    data = (str(tmp_path / "photo.png"),)
    request = TrainRequest(config=config, data=data, valid=data, folder=tmp_path / "run", device="cpu")
    report = train(request, note=notes.append)
    assert report
    assert "8 of 8 channels were dead and start anew" in notes
    notes.clear()
    assert train(dataclasses.replace(request, resume=True), note=notes.append)
    assert not [note for note in notes if "channels" in note], "what goes on has begun"
    network = load_module(report.weights, None)[2]
    assert isinstance(network, EDSR)
    lr = torch.from_numpy(spices[:60, :80].copy()).permute(2, 0, 1)[None].float() / 255
    assert (shares(network, [lr]) > 0.01).all()

    with pytest.raises(UsageError, match="Set init to one"):
        dataclasses.replace(config, init="")
