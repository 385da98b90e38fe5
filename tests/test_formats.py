"""Weights files: what fits is loaded bit for bit, everything else is refused for its true reason."""

import io
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from layouts import first_esrgan_layout
from torch import Tensor, nn

from upscale_cli import zoo
from upscale_cli.errors import OutputError, WeightsError
from upscale_cli.weights import formats
from upscale_cli.weights.formats import (
    check_fits,
    expected_shapes,
    identify,
    keys_sha256,
    load_into,
    look_up,
    read_state,
    save,
    shapes_of,
)
from upscale_cli.zoo.edsr import EDSR

TINY = "edsr/x2-tiny"
SHARED = Path(__file__).parents[2] / "shared"


def network(name: str = TINY) -> nn.Module:
    torch.manual_seed(1)
    return zoo.find(name).build()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save(path, network().state_dict(), {"variant": TINY})
    return path


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_is_saved_is_read_back_bit_for_bit(file: Path) -> None:
    state, metadata = read_state(file)
    saved = network().state_dict()
    assert metadata == {"variant": TINY}
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[key], saved[key]) for key in saved)


def test_load_into_gives_the_same_picture(file: Path) -> None:
    torch.manual_seed(2)
    other = zoo.find(TINY).build().eval()
    picture = torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        assert not torch.equal(other(picture), network().eval()(picture))
        assert load_into(other, file, name=TINY) == {"variant": TINY}
        assert torch.equal(other(picture), network().eval()(picture))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load(dtype: torch.dtype, tmp_path: Path) -> None:
    half = {key: value.to(dtype) for key, value in network().state_dict().items()}
    save(tmp_path / "half.safetensors", half, {})
    module = network()
    load_into(module, tmp_path / "half.safetensors", name=TINY)
    assert all(torch.equal(value, half[key].float()) for key, value in module.state_dict().items())


class Trap:
    """Unpickling it would create a file: the proof that nothing in a weights file is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _archive(trap: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickle.dumps(Trap(trap)))
        archive.writestr("net/data/0", bytes(40_000_000))
    return buffer.getvalue()


FOREIGN = {
    "pickle": (lambda trap: pickle.dumps(Trap(trap), protocol=2), "is a Python pickle"),
    "archive with a trap and a bomb": (_archive, "is a PyTorch .pth archive"),
    "html": (lambda _: b"\n<!DOCTYPE html><html><title>404</title>", "is a web page"),
    "lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a git-LFS pointer"),
    "empty": (lambda _: b"", "is empty"),
    "few bytes": (lambda _: b"\x10\x00\x00", "is no weights file that is known"),
    "ncnn graph": (lambda _: b"7767517\n1 1\nInput in 0 1 data\n", "is an ncnn .param file"),
    "ncnn weights": (lambda _: b"\x47\x6b\x30\x01" + bytes(40), "is an ncnn .bin file"),
    "binary ncnn graph": (lambda _: b"\xdd\x85\x76\x00" + bytes(40), "is a binary ncnn graph"),
    "picture": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(40), "is a PNG picture"),
    "noise": (lambda _: bytes(range(200, 256)), "is no weights file that is known"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_formats_are_refused_by_content_and_never_run(case: str, tmp_path: Path) -> None:
    make, message = FOREIGN[case]
    path = tmp_path / "net.safetensors"
    path.write_bytes(make(tmp_path / "executed"))
    with pytest.raises(WeightsError, match=message) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("modern", [True, False])
def test_real_torch_checkpoints_are_refused(modern: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=modern)
    with pytest.raises(WeightsError, match=r"\.pth"):
        read_state(path)


def test_published_pth_is_refused() -> None:
    path = SHARED / "data" / "oracles" / "srgan-leftthomas" / "netG_epoch_4_100.pth"
    if not path.is_file():
        pytest.skip("the published checkpoint is not on this machine")
    with pytest.raises(WeightsError, match=r"\.pth.*Convert it with `upscale models import`"):
        read_state(path)


DAMAGED = {
    "header of 2^63 bytes": (struct.pack("<Q", 2**63) + b'{"a":1}', "header claims 9,223,372,036,854,775,808 bytes"),
    "header of 101 MB": (struct.pack("<Q", 101_000_000) + b'{"a":1}', "header claims 101,000,000 bytes"),
    "header longer than the file": (struct.pack("<Q", 5000) + b'{"a":1}', "cut off: 15 of 5,008 bytes"),
    "header not JSON": (raw(b'{"a":'), "corrupt"),
    "header not text": (raw(b'{"\xff\xfe":1}'), "corrupt"),
    "overlap": (raw({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)), "corrupt"),
    "hole": (raw({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)), "corrupt"),
    "shape overflow": (raw({"a": tensor([2**40, 2**40], 0, 8)}, bytes(8)), "corrupt"),
    "shape and bytes disagree": (raw({"a": tensor([3], 0, 8)}, bytes(8)), "corrupt"),
    "unknown dtype": (raw({"a": tensor([1], 0, 4, "F33")}, bytes(4)), "corrupt.*F33"),
    "huge offsets": (raw({"a": tensor([2**60], 0, 2**62)}, bytes(8)), "cut off: .* of 4,611,686"),
    "negative offset": (raw({"a": tensor([1], -4, 0)}, bytes(4)), "corrupt"),
    "metadata not text": (raw({"__metadata__": {"a": 1}}), "corrupt"),
    "tensor not a table": (raw({"a": 1}), "corrupt"),
    "deep": (raw(b'{"a":' * 20_000), "corrupt"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_header_is_refused_without_a_big_allocation(case: str, tmp_path: Path) -> None:
    body, message = DAMAGED[case]
    path = tmp_path / "net.safetensors"
    path.write_bytes(body)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=message):
        read_state(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_cut_and_extended_files_say_by_how_much(file: Path) -> None:
    body = file.read_bytes()
    file.write_bytes(body[:-7])
    with pytest.raises(WeightsError, match=rf"cut off: {len(body) - 7:,} of {len(body):,} bytes"):
        read_state(file)
    file.write_bytes(body + b"more")
    with pytest.raises(WeightsError, match="4 bytes follow after its end"):
        read_state(file)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_refused(share: float, file: Path) -> None:
    body = file.read_bytes()
    file.write_bytes(body[: int(len(body) * share)])
    with pytest.raises(WeightsError):
        read_state(file)


def test_no_damaged_bytes_get_past_or_crash(file: Path) -> None:
    body = file.read_bytes()
    header = 8 + int.from_bytes(body[:8], "little")
    dice = random.Random(7)
    module = network()
    loaded = 0
    for _ in range(200):
        wrong = bytearray(body)
        wrong[dice.randrange(header)] = dice.randrange(256)
        file.write_bytes(wrong[: dice.choice([len(wrong), dice.randrange(len(wrong))])])
        try:
            load_into(module, file, name=TINY)
            loaded += 1
        except WeightsError as error:
            assert str(file) in str(error)  # noqa: PT017 (a few harmless changes load: the metadata's text)
    assert loaded < 20


def test_absent_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_state(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="is not a file"):
        read_state(tmp_path)


def _fit(change: dict[str, Tensor | None]) -> str:
    state = network().state_dict() | change
    with pytest.raises(WeightsError) as caught:
        check_fits({k: v for k, v in state.items() if v is not None}, shapes_of(network()), name=TINY)
    return str(caught.value)


def test_missing_extra_and_misshapen_tensors_are_listed() -> None:
    key, *others = (name for name in network().state_dict() if name.endswith("weight"))
    message = _fit({key: None, "ghost": torch.zeros(1), others[0]: torch.zeros(2, 2)})
    assert f"1 tensor missing: {key}" in message
    assert "1 tensor not in the network: ghost" in message
    assert f"1 tensor of another shape: {others[0]} [2, 2] instead of [" in message
    assert f"do not fit {TINY}" in message


def test_long_lists_are_cut() -> None:
    message = _fit({f"ghost{i}": torch.zeros(1) for i in range(9)})
    assert "9 tensors not in the network: ghost0, ghost1, ghost2, ghost3, ghost4 and 4 more" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite_weights_are_refused(value: float) -> None:
    key, weight = next(iter(network().state_dict().items()))
    weight.view(-1)[-1] = value
    assert f"1 tensor with NaN or infinite values: {key}" in _fit({key: weight})


def test_integer_weights_are_refused() -> None:
    key, weight = next(iter(network().state_dict().items()))
    assert f"not floating point: {key} (torch.int64)" in _fit({key: weight.long()})


def test_weights_of_another_scale_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x2.safetensors"
    save(path, zoo.find("lightweight/x2").build().state_dict(), {})
    module = zoo.find("lightweight/x4").build()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(WeightsError, match=r"do not fit lightweight/x4.*those of lightweight/x2 \(scale 2\)") as caught:
        load_into(module, path, name="lightweight/x4")
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_weights_of_another_architecture_are_named() -> None:
    state = zoo.find("improved/x2").build().state_dict()
    with pytest.raises(WeightsError, match="those of improved/x2"):
        check_fits(state, expected_shapes(zoo.find("edsr/x2")), name="edsr/x2")


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    module = network("srresnet/x2-tiny")
    state = module.state_dict()
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    assert keys_sha256(shapes_of(module)) == keys_sha256({key: value.shape for key, value in without.items()})
    for weights in (state, without):
        save(tmp_path / "net.safetensors", weights, {})
        load_into(zoo.find("srresnet/x2-tiny").build(), tmp_path / "net.safetensors", name="srresnet/x2-tiny")


@pytest.mark.parametrize("variant", [v for v in zoo.variants() if v.parameters], ids=lambda variant: variant.name)
def test_every_network_is_known_by_its_tensors(variant: zoo.Variant) -> None:
    """By its own row or one of the same tensors; where those do not show the scale, the rows are listed."""
    shapes = expected_shapes(variant)
    alike = [v for v in zoo.variants() if v.parameters == variant.parameters and expected_shapes(v) == shapes]
    if len({v.scale for v in alike}) > 1:
        with pytest.raises(WeightsError, match=f"several networks: {', '.join(v.name for v in alike)}"):
            identify(shapes)
        return
    found, names = identify(shapes)
    assert found in alike
    assert all(key == name for key, name in names.items())


def test_a_network_with_other_numbers_than_any_row_is_known() -> None:
    module = EDSR(scale=3, blocks=5, channels=24)
    found, names = identify(shapes_of(module))
    assert found not in zoo.variants()
    assert (found.architecture, found.scale) == ("edsr", 3)
    assert found.parameters == sum(value.numel() for value in module.parameters())
    assert all(key == name for key, name in names.items())


def test_unknown_tensors_get_the_nearest_networks() -> None:
    shapes = expected_shapes(zoo.find("edsr/x2"))
    shapes.popitem()
    with pytest.raises(
        WeightsError, match=rf"exactly these {len(shapes)} tensors\. Nearest: edsr/x2 \({len(shapes)} of"
    ):
        identify(shapes)
    with pytest.raises(WeightsError, match=r"exactly these 1 tensors\.$"):
        identify({"ghost": torch.Size([1])})
    assert look_up({"ghost": torch.Size([1])}) is None
    assert look_up({}) is None


def test_two_rows_for_the_same_tensors_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    row = zoo.find(TINY)
    twin = zoo.Variant("twin", "edsr", row.build, 2, 1, row.parameters)
    monkeypatch.setattr(zoo, "variants", lambda: (row, twin))
    monkeypatch.setattr(zoo, "recognise", lambda shapes: None)
    with pytest.raises(WeightsError, match="fit several networks: edsr/x2-tiny, twin"):
        identify(expected_shapes(row))


def test_another_published_layout_is_translated(tmp_path: Path) -> None:
    state = network("rrdb/x4-tiny").state_dict()
    save(tmp_path / "net.safetensors", first_esrgan_layout(state), {})
    module = zoo.find("rrdb/x4-tiny").build()
    load_into(module, tmp_path / "net.safetensors", name="rrdb/x4-tiny")
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_keys_hash_knows_names_and_shapes_but_not_order() -> None:
    one = {"a": torch.Size([2, 3]), "b": torch.Size([1])}
    assert keys_sha256(one) == keys_sha256(dict(reversed(one.items())))
    assert keys_sha256(one) != keys_sha256({"a": torch.Size([3, 2]), "b": torch.Size([1])})
    assert keys_sha256(one) != keys_sha256({"a": torch.Size([2, 3]), "c": torch.Size([1])})


def test_saving_replaces_whole_or_not_at_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(tensors: dict[str, Tensor], name: str, metadata: dict[str, str]) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save(file, network().state_dict(), {})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_saving_refuses_what_would_be_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="NaN"):
        save(tmp_path / "net.safetensors", {"a": torch.tensor([float("nan")])}, {})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "file" / "net.safetensors", {"a": torch.ones(1)}, {})


def test_saving_takes_views_of_shared_memory(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save(tmp_path / "net.safetensors", {"a": base, "b": base.T}, {})
    assert torch.equal(read_state(tmp_path / "net.safetensors")[0]["b"], base.T)


def test_disk_full_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys, torch; from pathlib import Path; from upscale_cli.weights.formats import save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "save(Path(sys.argv[1]), {'a': torch.ones(100_000)}, {})"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "net.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OutputError" in done.stderr
    assert "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []
