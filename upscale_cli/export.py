"""`upscale models export`: a model as a file for other programs, proven to give the same picture.

Owns the formats and the proof: every file is opened again as its users will, and compared with the original on a
picture at two sizes. Refuses to give a file its final name before that. All but safetensors hold the whole way of
`Model`: any height and width in, [0, 1] out, fp32.
"""

import importlib
import importlib.util
import json
import os
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import nn

from upscale_cli import __version__
from upscale_cli.engines import graph
from upscale_cli.engines.graph import EXAMPLE
from upscale_cli.errors import InputError, OutputError, UpscaleError, UsageError
from upscale_cli.evaluate import read_rgb8
from upscale_cli.manifest import load_manifest, names_file
from upscale_cli.media.made import made_picture
from upscale_cli.model import Picture
from upscale_cli.weights import formats
from upscale_cli.weights.loading import load_module
from upscale_cli.weights.sniff import sniff
from upscale_cli.zoo import Variant

Format = Literal["onnx", "safetensors", "torchscript", "openvino"]
Images = npt.NDArray[np.float32]
Run = Callable[[Images], Images]  # N x 3 x H x W to N x 3 x sH x sW

TOLERANCE = 1e-4
"""Largest difference to the original, of pictures in [0, 1], both in fp32: a fortieth of an 8-bit step."""
ONNX_OPSET = 18
"""The oldest that PyTorch writes without converting, so that most programs read it."""
CHECK_SIZES = ((64, 48), (17, 23))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export to what."""

    model: str
    format: Format
    scale: float | None = None
    output: Path | None = None
    """A file, or an existing folder; the current one unless given."""
    check: Path | None = None
    """A photograph to compare on; without it a made picture with the spectrum of one."""
    overwrite: bool = False
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """The largest absolute difference to the original on a picture of this size, values in [0, 1]."""

    height: int
    width: int
    max_error: float


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how near it is to the original."""

    model: str
    variant: str
    scale: int
    format: Format
    files: tuple[Path, ...]
    bytes: int
    checked_on: str
    checks: tuple[Check, ...]
    tolerance: float
    facts: Mapping[str, str]
    """What the file says of itself: name, variant, scale, margin, licence, attribution."""


def export(request: ExportRequest) -> ExportReport:
    """Write the model in the wanted format, once it is seen to give the pictures of the original.

    Raises UsageError for a name, an output or a missing extra, WeightsError for weights that are not there or not
    sound, InputError for the photograph, OutputError if the format cannot hold the network, the pictures differ or the
    file cannot be written. Nothing is left then under the final name.
    """
    way = _FORMATS[request.format]
    way.require()
    photo = _photograph(request.check) if request.check else made_picture()
    name, variant, module = load_module(request.model, request.scale, offline=request.offline)
    targets = _targets(request, name, way.endings)
    picture = Picture(module, variant).eval().requires_grad_(False)
    facts = _facts(request, name, variant)
    try:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
        # On the target's own file system, so that a file comes under its name in one step.
        with tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=f".{targets[0].stem}.", suffix=".part") as part:
            made = [Path(part, target.name) for target in targets]
            checks = _made(way, picture, facts, made[0], photo, name=name)
            _publish(made, targets)
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror or error
        raise OutputError(
            f"{targets[0]} cannot be written: {reason}. Free some space, or choose another -o."
        ) from error
    return ExportReport(
        model=name,
        variant=variant.name,
        scale=variant.scale,
        format=request.format,
        files=targets,
        bytes=sum(target.stat().st_size for target in targets),
        checked_on=str(request.check or "a made picture"),
        checks=checks,
        tolerance=TOLERANCE,
        facts=facts,
    )


def _photograph(path: Path) -> Images:
    pixels = read_rgb8(path)
    least = max(max(size) for size in CHECK_SIZES)
    if min(pixels.shape[:2]) < least:
        raise InputError(f"{path} is too small to check on: {least} x {least} pixels are needed. Choose another.")
    return (pixels / 255).astype(np.float32)


def _targets(request: ExportRequest, name: str, endings: tuple[str, ...]) -> tuple[Path, ...]:
    """The files to write; UsageError if one of them is there already, or the name has another format's ending."""
    output = request.output or Path()
    path = output / f"{name}{endings[0]}" if output.is_dir() else output
    if path.suffix != endings[0]:
        raise UsageError(f"-o {path} does not end in {endings[0]}, as {request.format} does. Choose another -o.")
    targets = tuple(path.with_suffix(ending) for ending in endings)
    for target in targets:
        if target.is_dir() or (target.exists() and not request.overwrite):
            raise UsageError(f"{target} exists. Use --overwrite, or choose another -o.")
    return targets


def _facts(request: ExportRequest, name: str, variant: Variant) -> dict[str, str]:
    """What others need to know: of the file the user named what its header says, else what the list of models does."""
    facts = _header(Path(request.model)) if names_file(request.model) else {}
    license = None if facts or names_file(request.model) else load_manifest().find(request.model, request.scale).license
    if license is not None:
        facts |= {"license": license.spdx, "attribution": license.attribution}
        facts |= {"license_url": license.url} if license.url else {}
        facts |= {"trained_on": "; ".join(license.trained_on), "commercial_use": "yes" if license.commercial else "no"}
    return facts | {
        "name": name,
        "variant": variant.name,
        "scale": str(variant.scale),
        "margin": str(variant.margin),
        "tileable": "yes" if variant.tileable else "no",
        "made_by": f"upscale {__version__}",
    }


def _header(path: Path) -> dict[str, str]:
    if sniff(path) != "safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _made(
    way: "_Way", picture: Picture, facts: dict[str, str], path: Path, photo: Images, *, name: str
) -> tuple[Check, ...]:
    """Write the file, open it again, and compare. OutputError if any of that fails."""
    try:
        with graph.quiet():
            way.write(picture, facts, path)
            run = way.open(path)
            checks = tuple(_compared(run, picture, photo, height, width) for height, width in CHECK_SIZES)
    except (UpscaleError, MemoryError, OSError):
        raise
    except Exception as error:  # each of these libraries has its own, for a network that its format cannot hold
        reason = textwrap.shorten(str(error), 300, placeholder=" ...").rstrip(".") or type(error).__name__
        raise OutputError(f"{name} cannot be exported to {way.name}: {reason}. Choose another --to.") from error
    for check in checks:
        if not check.max_error <= TOLERANCE:  # as NaN is not
            raise OutputError(
                f"{name} as {way.name} gives another picture than the original: {check.max_error:.1e} apart on "
                f"{check.width} x {check.height} pixels, {TOLERANCE:.0e} is allowed. Choose another --to."
            )
    return checks


def _compared(run: Run, picture: Picture, photo: Images, height: int, width: int) -> Check:
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    crop = photo[top : top + height, left : left + width].transpose(2, 0, 1)
    lr = np.ascontiguousarray(np.stack([crop, crop[..., ::-1]]))
    with torch.inference_mode():
        expected = picture(torch.from_numpy(lr)).numpy()
    found = run(lr)
    apart = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    return Check(height, width, apart)


def _publish(made: list[Path], targets: tuple[Path, ...]) -> None:
    """Give the files their names, the one that users name last; none has its name if one cannot have it."""
    for path in made:
        path.chmod(0o644)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    placed: list[Path] = []
    try:
        for path, target in reversed(list(zip(made, targets, strict=True))):
            path.replace(target)
            placed.append(target)
    except OSError:
        for target in placed:
            target.unlink(missing_ok=True)
        raise


# --- the formats -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    name: Format
    endings: tuple[str, ...]
    """Of the files it writes; the first is the one that users name."""
    packages: tuple[str, ...]
    """That it needs beside torch; the extra is called as the format."""
    write: Callable[[Picture, dict[str, str], Path], None]
    open: Callable[[Path], Run]

    def require(self) -> None:
        """UsageError, with the way to get them, if packages are missing."""
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UsageError(
                f"--to {self.name} needs {' and '.join(missing)}, not installed here. "
                f"Run `pip install 'upscale-cli[{self.name}]'`."
            )


def _write_safetensors(picture: Picture, facts: dict[str, str], path: Path) -> None:
    if facts["variant"].startswith("spandrel/"):
        raise UsageError(f"{facts['name']} is a network of spandrel's and no other file of ours. Choose another --to.")
    state = picture.network.state_dict()
    if not state:
        raise UsageError(f"{facts['name']} is a formula: it has no weights to keep. Choose another --to.")
    formats.save(path, state, facts)


def _open_safetensors(path: Path) -> Run:
    _, variant, module = load_module(path, None)
    return _run_torch(Picture(module, variant))


def _write_torchscript(picture: Picture, facts: dict[str, str], path: Path) -> None:
    traced = torch.jit.trace(picture, (torch.rand(EXAMPLE),), check_trace=False)
    torch.jit.save(traced, path, _extra_files={"upscale.json": json.dumps(facts)})


def _open_torchscript(path: Path) -> Run:
    return _run_torch(torch.jit.load(path, map_location="cpu"))


def _run_torch(picture: nn.Module) -> Run:
    def run(lr: Images) -> Images:
        with torch.inference_mode():
            return picture(torch.from_numpy(lr)).numpy()

    return run


def _write_onnx(picture: Picture, facts: dict[str, str], path: Path) -> None:
    op: Any = _imported("onnxscript").opset18

    def remainder(self: Any, other: Any) -> Any:
        # torch's own translation takes a plain number, and the size of a picture is none.
        return op.Mod(self, op.CastLike(other, self))

    program = torch.onnx.export(
        picture,
        (torch.rand(EXAMPLE),),
        dynamo=True,
        opset_version=ONNX_OPSET,
        input_names=["lr"],
        output_names=["sr"],
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        custom_translation_table={torch.ops.aten.remainder.Scalar: remainder},
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(facts)
    program.save(path)


def _open_onnx(path: Path) -> Run:
    session = _imported("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda lr: session.run(None, {"lr": lr})[0]


def _write_openvino(picture: Picture, facts: dict[str, str], path: Path) -> None:
    model = graph.trace(picture)
    for key, value in facts.items():
        model.set_rt_info(value, ["upscale", key])
    graph.library().save_model(model, path, compress_to_fp16=False)


def _open_openvino(path: Path) -> Run:
    # By itself it computes in bf16 or fp16 where the processor can.
    model = graph.library().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda lr: model(lr)[0]


def _imported(package: str) -> ModuleType:
    return importlib.import_module(package)


_FORMATS: Mapping[Format, _Way] = {
    way.name: way
    for way in (
        _Way("onnx", (".onnx",), ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _open_onnx),
        _Way("safetensors", (".safetensors",), (), _write_safetensors, _open_safetensors),
        _Way("torchscript", (".pt",), (), _write_torchscript, _open_torchscript),
        _Way("openvino", (".xml", ".bin"), (), _write_openvino, _open_openvino),
    )
}
