"""PyTorch checkpoints: every way they are wrapped is read, and nothing in them is ever run."""

import os
import pickle
import random
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import WeightsError
from upscale_cli.weights import pth

STATE = {"conv.weight": torch.arange(12.0).reshape(3, 4), "conv.bias": torch.tensor([0.5, -1.0])}
FORMATS = pytest.mark.parametrize("modern", [True, False], ids=["zip", "before 1.6"])


def saved(path: Path, content: object, *, modern: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    return path


def read(tmp_path: Path, content: object) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    return pth.read(saved(tmp_path / "net.pth", content))


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        pth.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"mkdir '{self.path}'",)


@FORMATS
def test_what_torch_saved_is_read_bit_for_bit(modern: bool, tmp_path: Path) -> None:
    state = zoo.find("edsr/x2-tiny").build().state_dict()
    found, notes = pth.read(saved(tmp_path / "net.pth", state, modern=modern))
    assert same(found, dict(state))
    assert notes == ()


@pytest.mark.parametrize("name", ["netG_epoch_2_100", "netG_epoch_4_100"])
def test_a_published_checkpoint_from_before_zip(name: str, oracles: Path) -> None:
    path = oracles / "srgan-leftthomas" / f"{name}.pth"
    expected = torch.load(path, map_location="cpu", weights_only=True)
    assert same(pth.read(path)[0], dict(expected))


def test_a_published_checkpoint_in_a_wrapper(oracles: Path) -> None:
    state, notes = pth.read(oracles / "ailut" / "AiLUT-FiveK-sRGB.pth")
    assert state["backbone.0.0.weight"].shape == (16, 3, 3, 3)
    assert notes == ("state_dict taken",)


OTHER = {key: value + 1 for key, value in STATE.items()}
WRAPPED = {
    "params": ({"params": STATE}, "params taken"),
    "params_ema first": ({"params": OTHER, "params_ema": STATE}, "params_ema taken, params ignored"),
    "state_dict": ({"epoch": 3, "state_dict": STATE, "optimizer": {"state": {}}}, "state_dict taken"),
    "model": ({"model": STATE, "scaler": None}, "model taken"),
    "generator": ({"generator": STATE, "discriminator": OTHER}, "generator taken"),
    "two deep": ({"model": {"params_ema": STATE}}, "model taken; params_ema taken"),
    "parallel": ({f"module.{key}": value for key, value in STATE.items()}, ""),
    "compiled": ({f"_orig_mod.{key}": value for key, value in STATE.items()}, ""),
    "both": ({"params": {f"module._orig_mod.{key}": value for key, value in STATE.items()}}, "params taken"),
    "averaged": ({"n_averaged": torch.tensor(9)} | {f"module.{k}": v for k, v in STATE.items()}, ""),
    "beside other things": ({**STATE, "step": 7, "name": "net", 4: "x"}, ""),
    "ordered": (OrderedDict(STATE), ""),
    "parameters": ({key: nn.Parameter(value) for key, value in STATE.items()}, ""),
    "a tensor beside": ({"params": STATE, "decay": torch.tensor(0.999)}, "params taken"),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrappers_are_taken_off(case: str, tmp_path: Path) -> None:
    content, note = WRAPPED[case]
    state, notes = read(tmp_path, content)
    assert same(state, STATE)
    assert "; ".join(notes) == note
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_stay_as_stored(dtype: torch.dtype, tmp_path: Path) -> None:
    state, _ = read(tmp_path, {key: value.to(dtype) for key, value in STATE.items()})
    assert {value.dtype for value in state.values()} == {dtype}


def test_a_prefix_that_would_merge_two_tensors_stays(tmp_path: Path) -> None:
    content = {"a": torch.zeros(1), "module.a": torch.ones(1)}
    assert read(tmp_path, content)[0].keys() == content.keys()


NO_WEIGHTS = {
    "optimizer": ({"optimizer": {"lr": 1e-4}, "epoch": 3}, "its top-level entries are optimizer, epoch"),
    "optimizer's own": (
        {"state": {0: {"step": torch.zeros(1)}}, "param_groups": []},
        "entries are state, param_groups",
    ),
    "empty": ({}, "it is an empty table"),
    "a tensor": (torch.zeros(3), "it is a Tensor"),
    "a list": ([torch.zeros(3)], "it is a list"),
    "many": ({f"entry{n}": n for n in range(20)}, "entry7 and 12 more"),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_files_without_weights_say_what_they_hold(case: str, tmp_path: Path) -> None:
    content, message = NO_WEIGHTS[case]
    assert message in refusal(saved(tmp_path / "net.pth", content))


def test_tables_that_contain_themselves_end(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["model"] = loop
    assert "holds no weights" in refusal(saved(tmp_path / "net.pth", loop))


@FORMATS
def test_a_payload_is_named_and_not_run(modern: bool, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    message = refusal(saved(tmp_path / "net.pth", {"params": STATE, "x": Trap(trap)}, modern=modern))
    assert "asks to run code" in message
    assert f"{os.system.__module__}.system" in message
    assert "safetensors" in message
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_is_not_run(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "executed"), protocol=protocol))
    refusal(path)
    assert not (tmp_path / "executed").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    """Its class would be imported and built."""
    assert "torch.nn.modules.linear.Linear" in refusal(saved(tmp_path / "net.pth", nn.Linear(2, 2)))


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "net.pt"))
    assert "TorchScript program, which is code" in refusal(tmp_path / "net.pt")


def repacked(path: Path, method: int = zipfile.ZIP_DEFLATED, **changed: bytes) -> Path:
    """The archive again: with another compression, and with some members' content replaced by name."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(name, changed.get(Path(name).name, body))
    return path


def test_a_deflated_bomb_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repacked(saved(tmp_path / "net.pth", {"a": torch.zeros(10_000_000)}))
    assert path.stat().st_size < 45_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("it was unpacked"))
    assert "to 40,000,2" in refusal(path)


def test_a_file_past_the_limit_is_refused(tmp_path: Path) -> None:
    for modern in (True, False):
        path = saved(tmp_path / "net.pth", STATE, modern=modern)
        with pytest.raises(WeightsError, match="more than the 100 that are read"):
            pth.read(path, limit_bytes=100)


def test_a_member_full_of_objects_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pth, "PICKLE_LIMIT_BYTES", 1000)
    path = saved(tmp_path / "net.pth", {f"entry{n}": n for n in range(1000)})
    assert "far more objects than weights need" in refusal(path)


def test_a_compressed_checkpoint_of_real_numbers_is_read(tmp_path: Path) -> None:
    state = zoo.find("edsr/x2-tiny").build().state_dict()
    assert same(pth.read(repacked(saved(tmp_path / "net.pth", state)))[0], dict(state))


def test_another_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net.safetensors", b"weights")
    assert "zip archive without a checkpoint. Unpack it" in refusal(tmp_path / "net.pth")


@FORMATS
def test_cut_and_extended_files_are_refused(modern: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", zoo.find("edsr/x2-tiny").build().state_dict(), modern=modern)
    body = path.read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(body[: int(len(body) * share)])
        refusal(path)
    path.write_bytes(body + b"more")
    assert "bytes follow after its end" in refusal(path)


def test_a_changed_number_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"a": torch.full((1000,), 7.0)})
    body = bytearray(path.read_bytes())
    body[body.find(struct.pack("<f", 7.0) * 2) + 2] ^= 1
    path.write_bytes(body)
    assert "checksum of its part net/data/0 is wrong" in refusal(path)


@FORMATS
def test_no_damaged_bytes_get_past_or_crash(modern: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"params": STATE}, modern=modern)
    body = path.read_bytes()
    dice = random.Random(7)
    loaded = 0
    for _ in range(150):
        wrong = bytearray(body)
        wrong[dice.randrange(len(body))] = dice.randrange(256)
        path.write_bytes(wrong)
        try:
            pth.read(path)
            loaded += 1
        except WeightsError as error:
            assert str(path) in str(error)  # noqa: PT017 (some changes are harmless: padding, the names of members)
    assert loaded < 100


STRANGE = {
    "quantised": (lambda: torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8), "is quantised"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "is no plain tensor"),
    "without numbers": (lambda: torch.empty(3, device="meta"), "is no plain tensor"),
    "stretched": (lambda: torch.zeros(1).expand(2**20, 2**20), "claims 1,099,511,627,776 numbers"),
}


@pytest.mark.parametrize("case", STRANGE)
@pytest.mark.filterwarnings("ignore")  # torch warns of what it is about to drop
def test_tensors_that_are_no_plain_numbers_are_refused(case: str, tmp_path: Path) -> None:
    make, message = STRANGE[case]
    assert message in refusal(saved(tmp_path / "net.pth", {"a": make()}))


def test_many_names_for_one_tensor_do_not_add_up_to_terabytes(tmp_path: Path) -> None:
    one = torch.zeros(1000)
    path = saved(tmp_path / "net.pth", {str(n): one.view(1000) for n in range(50)})
    with pytest.raises(WeightsError, match="claims 200,000 bytes"):
        pth.read(path, limit_bytes=100_000)


def test_an_old_file_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"a": torch.zeros(1000)}, modern=False)
    body = path.read_bytes()
    thousand, huge = b"M" + struct.pack("<H", 1000), b"\x8a\x06" + (2**42).to_bytes(6, "little")
    assert thousand in body
    path.write_bytes(body.replace(thousand, huge))
    refusal(path)
