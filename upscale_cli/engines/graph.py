"""A network as a graph that needs torch no more: traced once, kept in the cache, known by the weights it holds.

Owns what is kept (the graph in fp32 as OpenVINO's IR, and the facts an engine must know of its network), where, and
when it is out of date. Imports torch only to trace.
"""

import atexit
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import shutil
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import upscale_cli
from upscale_cli.errors import UsageError
from upscale_cli.manifest import load_manifest, names_file
from upscale_cli.networks import Combination
from upscale_cli.weights import source
from upscale_cli.weights.download import sha256_of
from upscale_cli.weights.leftovers import GRAPHS

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "openvino"
_CONVERTER = f"{PACKAGE}.tools.ovc"
# Odd and prime, so that every padding a network does is part of the graph; two pictures, or the batch becomes fixed.
EXAMPLE = (2, 3, 19, 29)
PROOF = (40, 56)
TOLERANCE = 1e-3
"""Largest difference to torch, both in fp32: a quarter of an 8-bit step."""
MANY_SUMS = 64
"""From which on rounding each of them to bf16 is seen in the picture."""
_FILES = ("graph.xml", "graph.bin", "facts.json")


class BackendError(UsageError):
    """This engine cannot run this network here; another may."""


class UnfitError(BackendError):
    """By its nature, so that nothing is missing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine must know of a network without building it; see `zoo.Variant`."""

    name: str
    """Of the weights: a row of the manifest, a file, or a mixture of two."""
    variant: str
    scale: int
    margin: int
    exact: bool
    multiple_of: int
    precisions: tuple[str, ...]
    live_values: float
    """Values alive at the worst moment, per input pixel."""
    end_values: float
    """Of the largest features that are computed by bands, per input pixel; 0 where none are."""
    operations: float
    """Multiplications and additions, per input pixel."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A traced network: float32 N x 3 x H x W in [0, 1] in, N x 3 x sH x sW out, not clamped."""

    facts: Facts
    identity: str
    """Of the weights: the sha256 of their file, or what makes a mixture of two."""
    xml: Path


def library() -> ModuleType:
    """The OpenVINO package. BackendError where it is not installed or does not load."""
    modules: dict[str, Any] = sys.modules
    # On import it would report home without a question asked; it does not where its reporter cannot be imported.
    modules.setdefault("openvino_telemetry", None)
    late = not {PACKAGE, _CONVERTER} & modules.keys()
    if late:  # a tenth of the start, for what only tracing needs
        modules[_CONVERTER] = None
    try:
        package: Any = importlib.import_module(PACKAGE)
    except ImportError as error:
        reason = "is not installed" if importlib.util.find_spec(PACKAGE) is None else f"does not load: {error}"
        raise BackendError(
            f"The engine openvino {reason}. Run `pip install {PACKAGE}`, or use --engine torch."
        ) from error
    finally:
        if late:
            del modules[_CONVERTER]
    if late:
        package.convert_model = _convert_model
    return package


def _convert_model(*words: Any, **options: Any) -> Any:
    """As `openvino.convert_model`, which is loaded when it is called."""
    return importlib.import_module(_CONVERTER).convert_model(*words, **options)


def operations() -> ModuleType:
    """What graphs are made of; see `library`."""
    return importlib.import_module(f"{library().__name__}.opset13")


def holds(node: Any) -> bool:
    """Whether the second input of an operation, its weights, slopes or bias, is known."""
    return node.input_value(1).get_node().get_type_name() == "Constant"


def open_graph(network: Combination, scale: float | None = None, *, offline: bool = False) -> Graph:
    """The graph of one model, or of two whose weights are mixed: from the cache, else traced and kept there.

    Raises what loading the weights raises; BackendError where it cannot be traced, UnfitError for networks that are no
    plain graph: formulas, those that must see the whole picture, those of other packages.
    """
    library()
    identity = _identity(network, scale, offline)
    folder = source.cache_path() / GRAPHS / _key(identity)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _read(folder, identity)
    return _traced(network, scale, identity, folder, offline)


def _identity(network: Combination, scale: float | None, offline: bool) -> str:
    """Which weights these are, verified to be so. Those that a row names come from where they lie, or the network."""
    found = []
    for model in network.models:
        if names_file(model):
            if not Path(model).is_file():
                raise UnfitError(f"{model} is no file.")
            found.append(f"{Path(model).stem}:{sha256_of(Path(model))}")
            continue
        entry = load_manifest().find(str(model), scale)
        if entry.status == "formula":
            raise UnfitError(f"{entry.name} is a formula.")
        source.locate(entry, offline=offline)
        found.append(f"{entry.name}:{entry.sha256}")
    return "+".join(found) + ("" if network.share is None else f":{network.share}")


@functools.cache
def _code() -> str:
    """What else a graph, its facts and what is compiled of it depend on: our source of all that, and the library."""
    digest = hashlib.sha256(importlib.metadata.version(PACKAGE).encode())
    package = Path(upscale_cli.__file__).parent
    folders = (path for folder in ("zoo", "engines") for path in (package / folder).rglob("*.py"))
    for path in sorted((*folders, package / "model.py", package / "kernels.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(identity: str) -> str:
    return hashlib.sha256(f"{identity} {_code()}".encode()).hexdigest()[:32]


def _read(folder: Path, identity: str) -> Graph:
    xml, weights, facts = (folder / name for name in _FILES)
    known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    if weights.stat().st_size != known.pop("weights_bytes") or known.pop("identity") != identity:
        raise ValueError(folder)
    known["precisions"] = tuple(known["precisions"])
    return Graph(Facts(**known), identity, xml)


def _traced(network: Combination, scale: float | None, identity: str, folder: Path, offline: bool) -> Graph:
    """Trace it, keep it in `folder`, or where that cannot be written, in a folder that goes with this process."""
    from upscale_cli.engines.rewriting import live_values, operations
    from upscale_cli.model import Picture, load_network

    name, variant, module = load_network(network.models, network.share, scale=scale, offline=offline)
    if not variant.tileable or variant.name.startswith("spandrel/"):
        raise UnfitError(f"{variant.name} is no plain graph.")
    model = _proven(Picture(module, variant).eval().requires_grad_(False), variant.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=".part"))
    except OSError:
        part = folder = _passing_folder()
    xml, weights, note = (part / file for file in _FILES)
    library().save_model(model, xml, compress_to_fp16=False)
    _keep_wide(xml, ends=variant.coarse)
    facts = Facts(
        name,
        variant.name,
        variant.scale,
        variant.margin,
        variant.exact,
        variant.multiple_of,
        tuple(variant.dtypes),
        *live_values(xml),
        operations(xml),
    )
    known = {**asdict(facts), "weights_bytes": weights.stat().st_size, "identity": identity}
    note.write_text(json.dumps(known), encoding="utf-8")
    if part != folder:
        shutil.rmtree(folder, ignore_errors=True)  # of what could not be read
        try:
            part.rename(folder)
        except OSError:  # another process was first, with the same
            shutil.rmtree(part, ignore_errors=True)
        _forget_older(folder, identity)
    return _read(folder, identity)


def _keep_wide(xml: Path, *, ends: bool) -> None:
    """Mark what is to be computed in fp32 where convolutions are in bf16: all behind the last one, and many sums. With
    `ends` the last one too, and the first with all before it.

    A deep network adds to the same values a hundred times, and would round them as often: Real-ESRGAN x4 then comes
    within 48.6 dB of fp32 on a photograph, so marked 50.3 dB, for 1 to 3 % of its time. Those within its blocks, which
    are scaled by 0.2 before they reach the others, would take as long again for 0.03 dB. EDSR's 17 sums gain nothing by
    it and cost 10 to 40 %. SPAN, whose picture itself passes its convolutions, gains 1.4 and 2.8 dB by its ends in
    fp32, for 3 to 6 %; other networks hardly any. Only a file can say so: the library has no call for it.
    """
    tree = ElementTree.parse(xml)
    layers = {layer.get("id", ""): layer for layer in tree.iterfind("layers/layer")}
    inputs: dict[str, list[str]] = {}
    outputs: dict[str, list[str]] = {}
    for edge in tree.iterfind("edges/edge"):
        inputs.setdefault(edge.get("to-layer", ""), []).append(edge.get("from-layer", ""))
        outputs.setdefault(edge.get("from-layer", ""), []).append(edge.get("to-layer", ""))
    constant = {key for key, layer in layers.items() if layer.get("type") == "Const"}
    sums = {key for key, layer in layers.items() if layer.get("type") == "Add" and constant.isdisjoint(inputs[key])}

    scalings = {
        key for key, layer in layers.items() if layer.get("type") == "Multiply" and not constant.isdisjoint(inputs[key])
    }

    def scaled(key: str) -> bool:
        """Whether a sum is added to others only behind a factor."""
        following = (sums | scalings).intersection(outputs[key])
        return len(following) == 1 and any(each in scalings or scaled(each) for each in following)

    wide = {key for key in sums if not scaled(key)} if len(sums) >= MANY_SUMS else set[str]()

    def reached(kind: str, following: dict[str, list[str]]) -> set[str]:
        """From all of a kind up to the convolutions."""
        left, seen = [key for key, layer in layers.items() if layer.get("type") == kind], set[str]()
        while left:
            key = left.pop()
            convolves = layers[key].get("type") in ("Convolution", "MatMul")
            if key not in seen and (ends or not convolves):
                seen.add(key)
                left += [] if convolves else following.get(key, [])
        return seen

    wide |= reached("Result", inputs)
    if ends:
        wide |= reached("Parameter", outputs)
    for key in wide:
        layer = layers[key]
        if layer.get("type") not in ("Const", "Parameter", "Result"):
            for said in layer.findall("rt_info"):
                layer.remove(said)
            mark = ElementTree.Element("rt_info")
            ElementTree.SubElement(mark, "attribute", name="precise", version="0")
            layer.insert(int(layer.find("data") is not None), mark)
    tree.write(xml)


def _forget_older(folder: Path, identity: str) -> None:
    """Remove what other versions of this program or the library made of the same weights."""
    for note in folder.parent.glob(f"*/{_FILES[2]}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if note.parent != folder and json.loads(note.read_text(encoding="utf-8"))["identity"] == identity:
                shutil.rmtree(note.parent, ignore_errors=True)


def trace(picture: "nn.Module") -> Any:
    """The `openvino.Model` of a picture-to-picture module: any N, H and W, fp32, its ends called `lr` and `sr`."""
    import torch

    from upscale_cli.engines.tail import linear_end, move_last
    from upscale_cli.engines.upsampling import activate_first, merge_shuffles

    openvino = library()
    decoder = importlib.import_module(f"{openvino.__name__}.frontend.pytorch.ts_decoder")
    with quiet():
        # torch would check what it traced by running and tracing all of it again; the picture is compared in `_proven`
        traced = decoder.TorchScriptPythonDecoder(
            picture, example_input=torch.rand(EXAMPLE), trace_kwargs={"check_trace": False}
        )
        model = openvino.convert_model(traced, input=[openvino.PartialShape("?,3,?,?")])
    merge_shuffles(model)
    activate_first(model)
    if not linear_end(model):  # of such, more can be put together where tiles are large
        move_last(model)
    model.inputs[0].set_names({"lr"})
    model.outputs[0].set_names({"sr"})
    return model


def _proven(picture: "nn.Module", name: str) -> Any:
    """The graph of `picture`, seen to give the same picture. BackendError where there is none."""
    import torch

    from upscale_cli.weights.importing import patch

    lr = patch(*PROOF)
    try:
        model = trace(picture)
        run = library().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = torch.from_numpy(run(lr.numpy())[0])
    except RuntimeError as error:  # the library has no other
        reason = str(error).strip().splitlines()[-1]
        raise BackendError(f"openvino cannot run {name}: {reason}") from error
    with torch.inference_mode():
        apart = (found - picture(lr)).abs().max().item()
    if not apart <= TOLERANCE:  # as NaN is not
        raise BackendError(f"openvino gives another picture of {name}: {apart:.1e} apart.")
    return model


def _passing_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="upscale-graph-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Tracing warns of everything that a traced graph fixes; what it fixed is seen by comparing pictures."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
