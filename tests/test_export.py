"""`upscale models export`: a file that gives the pictures of the original and says whose it is, or no file at all."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from upscale_cli import export as exporting
from upscale_cli import zoo
from upscale_cli.cli.models import app
from upscale_cli.engines import graph
from upscale_cli.errors import InputError, OutputError, UpscaleError, UsageError, WeightsError
from upscale_cli.export import CHECK_SIZES, ONNX_OPSET, TOLERANCE, ExportReport, ExportRequest, Format, export
from upscale_cli.manifest import load_manifest
from upscale_cli.model import load_model
from upscale_cli.zoo import Variant

ROOT = Path(__file__).parents[1]
PACKAGES = {"onnx": "onnxscript"}
TINY = tuple(variant for variant in zoo.variants() if variant.name.endswith("-tiny"))


def need(format: Format) -> None:
    for package in ("onnxruntime", "onnx", "onnxscript") if format == "onnx" else (format,):
        if format in PACKAGES and exporting.importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it comes with the extra [{format}]")


def run(report: ExportReport, lr: Tensor) -> np.ndarray:
    return exporting._FORMATS[report.format].open(report.files[0])(lr.numpy())


@pytest.fixture(scope="module")
def crops(spices: np.ndarray) -> tuple[Tensor, ...]:
    """Of a photograph: an odd size, another than was checked, and less than the network sees."""
    photo = torch.from_numpy(spices.copy()).permute(2, 0, 1)[None] / 255
    sizes = ((17, 23), (50, 71), (5, 3))
    return tuple(photo[..., 200 : 200 + height, 300 : 300 + width].contiguous() for height, width in sizes)


def serve(monkeypatch: pytest.MonkeyPatch, variant: Variant, network: nn.Module) -> None:
    """What `load_module` finds from now on."""
    # A manifest row is named all the same: the licence comes from there.
    monkeypatch.setattr(exporting, "load_module", lambda *_, **__: (variant.name.replace("/", "-"), variant, network))


@pytest.mark.parametrize("format", get_args(Format))
def test_it_gives_the_picture_of_the_original(format: Format, tmp_path: Path, crops: tuple[Tensor, ...]) -> None:
    need(format)
    report = export(ExportRequest(model="lightweight", scale=2, format=format, output=tmp_path))
    assert (report.model, report.variant, report.scale) == ("lightweight-x2", "lightweight/x2", 2)
    assert sorted(tmp_path.iterdir()) == sorted(report.files)
    assert report.bytes == sum(path.stat().st_size for path in report.files)
    assert [(check.height, check.width) for check in report.checks] == list(CHECK_SIZES)
    assert all(check.max_error <= TOLERANCE for check in report.checks)
    original = load_model("lightweight-x2", device="cpu", precision="fp32")
    with graph.quiet():
        for lr in crops:
            assert run(report, lr) == pytest.approx(original(lr).numpy(), abs=1e-5)


def test_safetensors_are_the_model_again(tmp_path: Path, crops: tuple[Tensor, ...]) -> None:
    path = tmp_path / "sub" / "mine.safetensors"
    report = export(ExportRequest(model="lightweight-x2", format="safetensors", output=path))
    assert report.files == (path,)
    before, after = (load_model(each, device="cpu", precision="fp32") for each in ("lightweight-x2", path))
    assert torch.equal(before(crops[1]), after(crops[1]))
    again = export(ExportRequest(model=str(path), format="safetensors", output=tmp_path / "again.safetensors"))
    assert again.facts == {**report.facts, "name": "mine"}  # whose work it is travels along
    assert report.facts["license"] == "Apache-2.0"
    assert report.facts["attribution"]


def test_onnx_says_what_it_is(tmp_path: Path) -> None:
    need("onnx")
    report = export(ExportRequest(model="bicubic-x2", format="onnx", output=tmp_path))
    import onnx
    import onnxruntime

    model = onnx.load(report.files[0])
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [ONNX_OPSET]
    session = onnxruntime.InferenceSession(report.files[0], providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == report.facts
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("lr", ["batch", 3, "height", "width"])]
    assert session.get_outputs()[0].name == "sr"
    assert (report.facts["scale"], report.facts["margin"], report.facts["variant"]) == ("2", "2", "bicubic/x2")


def test_openvino_says_what_it_is_and_tells_nobody(tmp_path: Path) -> None:
    need("openvino")
    report = export(ExportRequest(model="lightweight-x2", format="openvino", output=tmp_path / "net.xml"))
    assert [path.name for path in report.files] == ["net.xml", "net.bin"]
    import openvino

    model = openvino.Core().read_model(report.files[0])
    for key, value in report.facts.items():
        assert model.get_rt_info(["upscale", key]).astype(str) == value
    assert sys.modules["openvino_telemetry"] is None


def test_torchscript_says_what_it_is(tmp_path: Path) -> None:
    report = export(ExportRequest(model="lightweight-x2", format="torchscript", output=tmp_path))
    facts = {"upscale.json": ""}
    with graph.quiet():
        torch.jit.load(report.files[0], _extra_files=facts)
    assert json.loads(facts["upscale.json"]) == report.facts


@pytest.mark.parametrize("variant", TINY, ids=lambda variant: variant.name)
def test_every_architecture_becomes_torchscript(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At sizes it was not traced at: no size and no padding may become part of the graph."""
    torch.manual_seed(0)
    serve(monkeypatch, variant, variant.build().eval())
    report = export(ExportRequest(model="lightweight-x2", format="torchscript", output=tmp_path))
    assert max(check.max_error for check in report.checks) <= 1e-5


# Of those that torch translates one by one: windows, statistics with mirrored borders, a bicubic that mirrors sizes.
GRAPHS = [("openvino", each.name) for each in TINY if each.architecture != "lut3d"]
GRAPHS += [("onnx", name) for name in ("swinir/x2-tiny", "cyclegan/x2-tiny", "mobilenetv2/x2-tiny")]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "name"), GRAPHS)
def test_every_architecture_becomes_a_graph(
    format: Format, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(format)
    variant = zoo.find(name)
    torch.manual_seed(0)
    serve(monkeypatch, variant, variant.build().eval())
    report = export(ExportRequest(model="lightweight-x2", format=format, output=tmp_path))
    assert max(check.max_error for check in report.checks) <= 1e-5


def test_openvino_looks_nothing_up_in_three_dimensions_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    variant = zoo.find("lut3d/x1-tiny")
    serve(monkeypatch, variant, variant.build().eval())
    with pytest.raises(OutputError, match=r"lut3d-x1-tiny cannot be exported to openvino: .* Choose another --to\."):
        export(ExportRequest(model="lightweight-x2", format="openvino", output=tmp_path))
    assert not list(tmp_path.iterdir())


class Multiples(nn.Module):
    """Takes multiples of 4 only."""

    def forward(self, lr: Tensor) -> Tensor:
        return lr.unflatten(-1, (-1, 4)).flatten(-2)


@pytest.mark.parametrize("format", ["torchscript", "onnx", "openvino"])
def test_a_network_that_asks_for_multiples_gets_them(
    format: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: tuple[Tensor, ...]
) -> None:
    need(format)
    serve(monkeypatch, Variant("m/x1", "m", Multiples, scale=1, margin=0, parameters=0, multiple_of=4), Multiples())
    report = export(ExportRequest(model="lightweight-x2", format=format, output=tmp_path))
    with graph.quiet():
        assert np.array_equal(run(report, crops[0]), crops[0].numpy())


class Sized(nn.Module):
    """Draws the width of the picture into it, as a number that tracing takes for a constant."""

    def forward(self, lr: Tensor) -> Tensor:
        return lr * (1 - len(range(int(lr.shape[-1]))) / 100)


def test_what_gives_another_picture_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Variant("sized/x1", "sized", Sized, scale=1, margin=0, parameters=0), Sized())
    path = tmp_path / "net.pt"
    path.write_bytes(b"what was there")
    with pytest.raises(OutputError, match=r"sized-x1 as torchscript gives another picture .* apart on 48 x 64 pixels"):
        export(ExportRequest(model="lightweight-x2", format="torchscript", output=path, overwrite=True))
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt"]
    assert path.read_bytes() == b"what was there"


class Untraceable(nn.Module):
    def forward(self, lr: Tensor) -> Tensor:
        raise RuntimeError("no graph of this")


def test_what_no_format_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Variant("u/x1", "u", Untraceable, scale=1, margin=0, parameters=0), Untraceable())
    with pytest.raises(OutputError, match=r"u-x1 cannot be exported to torchscript: .*no graph of this"):
        export(ExportRequest(model="lightweight-x2", format="torchscript", output=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    request = ExportRequest(model="lightweight-x2", format="safetensors", output=tmp_path / "net.safetensors")
    (path,) = export(request).files
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"net\.safetensors exists\. Use --overwrite, or choose another -o"):
        export(request)
    path.write_bytes(b"old")
    export(ExportRequest(model="lightweight-x2", format="safetensors", output=path, overwrite=True))
    assert path.stat().st_size == len(before)


def test_a_pair_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    made = [tmp_path / "part" / name for name in ("net.xml", "net.bin")]
    made[0].parent.mkdir()
    for path in made:
        path.write_bytes(b"made")
    (tmp_path / "net.xml").mkdir()
    (tmp_path / "net.xml" / "in the way").touch()
    with pytest.raises(OSError, match=r"net\.xml"):
        exporting._publish(made, (tmp_path / "net.xml", tmp_path / "net.bin"))
    assert not (tmp_path / "net.bin").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/net\.pt cannot be written: File exists \(.*file\)"):
        export(ExportRequest(model="lightweight-x2", format="torchscript", output=tmp_path / "file" / "net.pt"))


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("lightweigt", UsageError, "Did you mean 'lightweight'"),
        ("bicubic-x2", UsageError, "bicubic-x2 is a formula: it has no weights"),
        ("nowhere.safetensors", WeightsError, "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_exported(model: str, error: type[UpscaleError], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        export(ExportRequest(model=model, format="safetensors", output=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nobody_has_trained_it(tmp_path: Path) -> None:
    name = next(entry.name for entry in load_manifest().entries if entry.status == "untrained")
    with pytest.raises(WeightsError, match=f"{name} "):
        export(ExportRequest(model=name, format="torchscript", output=tmp_path))


def test_an_ending_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.onnx does not end in \.pt, as torchscript does"):
        export(ExportRequest(model="lightweight-x2", format="torchscript", output=tmp_path / "net.onnx"))


@pytest.mark.parametrize("format", PACKAGES)
def test_a_missing_extra_is_named(format: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=rf"--to {format} needs .*Run `pip install 'upscale-cli\[{format}\]'`"):
        export(ExportRequest(model="lightweight-x2", format=format))


def test_the_extras_hold_what_the_formats_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        extra: {re.split(r"[<>=]", requirement)[0] for requirement in requirements}
        for extra, requirements in project["optional-dependencies"].items()
    }
    ways = {way.name: set(way.packages) for way in exporting._FORMATS.values() if way.packages}
    assert extras.items() >= ways.items()
    assert extras.keys() - ways.keys() == {"datasets", "heif", "raw", "spandrel", "tensorboard"}
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    assert set().union(*extras.values()) <= pinned


def test_it_is_checked_on_the_photograph_named(tmp_path: Path, photos: list[Path]) -> None:
    report = export(ExportRequest(model="lanczos-x3", format="torchscript", output=tmp_path, check=photos[0]))
    assert report.checked_on == str(photos[0])
    small = tmp_path / "small.png"
    Image.new("RGB", (64, 63)).save(small)
    with pytest.raises(InputError, match=r"small\.png is too small to check on: 64 x 64"):
        export(ExportRequest(model="lanczos-x3", format="torchscript", output=tmp_path / "n.pt", check=small))


def test_the_made_picture_resembles_a_photograph(spices: np.ndarray) -> None:
    made = exporting.made_picture()
    photo = spices[200:264, 300:364] / 255
    assert (made.shape, made.dtype) == (photo.shape, np.float32)
    assert 0 <= made.min() < 0.1 < 0.9 < made.max() <= 1
    steps = [float(np.abs(np.diff(image, axis=1)).mean() / image.std()) for image in (made, photo)]
    assert 0.5 < steps[0] / steps[1] < 2


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["export", "lightweight", "-s", "2", "--to", "safetensors"])
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("lightweight-x2.safetensors: lightweight-x2 (lightweight/x2, x2) as safetensors, ")
    assert lines[1].startswith("Apart from the original on a made picture: 0.0e+00 on 48 x 64, ")
    assert lines[2].startswith("Licence Apache-2.0, by ")
    report = json.loads(CliRunner().invoke(app, ["export", "lanczos-x2", "--to", "torchscript", "--json"]).stdout)
    assert (report["files"], report["tolerance"]) == (["lanczos-x2.pt"], TOLERANCE)
    assert {"height": 17, "width": 23, "max_error": 0.0} in report["checks"]


def test_it_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upscale_cli.cli import app as program

    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(program.app, ["export", "lanczos-x2", "--to", "torchscript"]).exit_code == 0
    assert (tmp_path / "lanczos-x2.pt").is_file()


def test_its_help_answers_without_torch() -> None:
    script = (
        "import sys\nfrom upscale_cli.cli.models import app\n"
        "try: app(['export', '--help'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "upscale models export lightweight -s 2 --to safetensors" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "False"
