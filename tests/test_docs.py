"""What is documented is true: the README's commands run, its options exist, its generated parts are up to date.

`python tests/test_docs.py` rewrites the generated parts: the table of models and the map of the code.
"""

import ast
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from clips import clip
from PIL import Image

from upscale_cli.manifest import Entry, shipped_manifest
from upscale_cli.weights.source import megabytes

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "benchmarks"
PACKAGE = ROOT / "upscale_cli"


def models_table() -> str:
    """The models that can be used, from weights_manifest.json, and the names of those that wait for weights."""
    lines = [
        "| model | scale | parameters | file | Set5 | BSD100 | licence | weights |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    entries = shipped_manifest().entries
    for entry in entries:
        if not entry.usable:
            continue
        cells = (
            f"`{entry.name}`",
            f"x{entry.scale}",
            f"{entry.parameters:,}" if entry.parameters else "-",
            megabytes(entry.size),
            _decibels(entry, "Set5"),
            _decibels(entry, "BSD100"),
            entry.license.spdx if entry.license else "-",
            entry.status,
        )
        lines.append(f"| {' | '.join(cells)} |")
    waiting = dict.fromkeys(entry.model for entry in entries if not entry.usable)
    names = ", ".join(
        f"`{model}` ({', '.join(f'x{e.scale}' for e in entries if e.model == model and not e.usable)})"
        for model in waiting
    )
    return "\n".join([*lines, "", f"Without weights so far: {names}."])


def _decibels(entry: Entry, dataset: str) -> str:
    score = entry.score(dataset)
    return f"{score.psnr_y:.2f}" if score else "-"


def code_map() -> str:
    """Every module with the first line of its docstring."""
    lines = ["| file | what it is |", "|---|---|"]
    for path in sorted(PACKAGE.rglob("*.py"), key=_tree_order):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        name = path.relative_to(PACKAGE).as_posix().replace("__init__.py", "") or "__init__.py"
        lines.append(f"| `{name}` | {docstring.splitlines()[0].replace('|', 'or')} |")
    return "\n".join(lines)


def _tree_order(path: Path) -> tuple[bool, str]:
    inside = path.relative_to(PACKAGE)
    return len(inside.parts) > 1, inside.as_posix().replace("__init__", "")


def speed_tables() -> str:
    """One table for every machine that benchmarks/speed.py ran on, from its JSON."""
    return "\n\n".join(_speed_table(path) for path in sorted((BENCHMARKS / "results").glob("speed-*.json")))


def _speed_table(path: Path) -> str:
    result = json.loads(path.read_text("utf-8"))
    machine = result["machine"]
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    lines = [
        f"{result['date']}, {where}, {machine['threads']} threads, torch {machine['versions']['torch']}, commit "
        f"{machine['commit']}, {len(result['photos'])} photographs, {result['rounds']} rounds:",
        "",
        "| model | precision | upscale, s | plain, s | ratio | MP/s in | MP/s out | plain | PSNR between |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| `{row['model']}` | {row['precision']} | {row['upscale_seconds']:.2f} | {row['plain_seconds']:.2f} | "
            f"{row['ratio']:.2f} | {row['input_megapixels_per_second']:.2f} | "
            f"{row['output_megapixels_per_second']:.1f} | {row['plain_output_megapixels_per_second']:.1f} | "
            f"{row['psnr_between']:.1f} |"
        )
    return "\n".join(lines)


def peers_tables() -> str:
    """One table for every model that benchmarks/peers.py measured, from its JSON."""
    paths = sorted((BENCHMARKS / "results").glob("peers-*.json"))
    cases = [case for path in paths for case in json.loads(path.read_text("utf-8"))["cases"]]
    return "\n\n".join(map(_peers_table, cases)) or "Not measured yet."


def _peers_table(case: dict[str, Any]) -> str:
    machine = case["machine"]
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    count = f"{len(case['photos'])} photographs" if len(case["photos"]) > 1 else "one photograph"
    lines = [
        f"`{case['model']}`, {count} of {case['width']} x {case['height']} pixels; {case['date']}, {where}, "
        f"{machine['threads']} threads, commit {machine['commit']}, {case['rounds']} rounds:",
        "",
        "| program | s | faster than the loop | upscale is faster | CPU s | peak MB | PSNR to fp32 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in case["rows"]:
        ratios = (f"{row[name]:.2f}" if row[name] else "-" for name in ("loop_ratio", "upscale_ratio"))
        faster, behind = ratios if row["same_picture"] else map("({})".format, ratios)
        lines.append(
            f"| `{row['program']}` | {row['seconds']:.2f} | {faster} | {behind} | {row['cpu_seconds']:.2f} | "
            f"{row['peak_mb']:.0f} | {_agreement(row['psnr_to_fp32'])} |"
        )
    left_out = "; ".join(f"`{name}`: {reason}" for name, reason in case["left_out"].items())
    return "\n".join([*lines, *(["", f"Left out: {left_out}"] if left_out else [])])


def _agreement(decibels: float) -> str:
    return "equal" if decibels == 100 else f"{decibels:.1f}"


def overlap_table() -> str:
    """What benchmarks/overlap.py measured, from its JSON."""
    path = BENCHMARKS / "results" / "overlap.json"
    if not path.exists():
        return "Not measured yet."
    result = json.loads(path.read_text("utf-8"))
    machine, (width, height) = result["machine"], result["picture_px"]
    lines = [
        f"{result['date']}, {machine['cpu']}, {machine['threads']} threads, commit {machine['commit']}, photographs of "
        f"{width} x {height}, {result['rounds']} rounds:",
        "",
        "| model | engine | photographs | whole process, s | network alone, s | ratio | processor, s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| `{row['model']}` | {row['backend']} {row['precision']} | {row['files']} | {row['whole_seconds']} | "
            f"{row['network_seconds']} | {row['ratio']} | {row['cpu_seconds']} |"
        )
    return "\n".join(lines)


def scale_tables() -> str:
    """What benchmarks/scale.py measured, from its JSON."""
    path = BENCHMARKS / "results" / "scale.json"
    return _scale_tables(json.loads(path.read_text("utf-8"))) if path.exists() else "Not measured yet."


def _scale_tables(result: dict[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        f"`{result['model']}` x{result['scale']} to {result['format'].upper()}; {result['date']}, {machine['cpu']}, "
        f"{machine['threads']} threads, commit {machine['commit']}, {result['rounds']} rounds, starting takes "
        f"{result['start_seconds']:.2f} s:",
        "",
        "| MP in | MP out | s | s / MP | to the smallest | CPU s | peak MB | file MB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["pictures"]:
        lines.append(
            f"| {row['megapixels']:.1f} | {row['out_megapixels']:.0f} | {row['seconds']:.1f} | "
            f"{row['seconds_per_megapixel']:.3f} | {row['to_smallest']:.2f} | {row['cpu_seconds']:.1f} | "
            f"{row['peak_mb']:.0f} | {row['file_mb']:.0f} |"
        )
    if many := result["files"]:
        resident = many["resident_mb"]
        lines += [
            "",
            f"{many['files']:,} files: {many['files_per_second']:.1f} a second; {resident[0]:.0f} MB in memory after a "
            f"tenth of them, {resident[-1]:.0f} MB at the end.",
        ]
    return "\n".join(lines)


def loader_table() -> str:
    """What benchmarks/loader.py measured, from its JSON."""
    path = BENCHMARKS / "results" / "loader.json"
    if not path.exists():
        return "Not measured yet."
    result = json.loads(path.read_text("utf-8"))
    machine = result["machine"]
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    lines = [
        f"{result['date']}, {where}, {machine['threads']} threads, commit {machine['commit']}, {result['batch']} "
        f"patches of {result['patch_px']} pixels a step, {result['steps']} steps, {result['rounds']} rounds:",
        "",
        "| network | data | degradation | step, ms | of it waiting | patches/s of a core |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| `{row['variant']}` | {row['data']} | {row['degradation']} | {row['step_ms']:.0f} | "
            f"{row['share']:.1%} | {row['alone']:.0f} |"
        )
    return "\n".join(lines)


GENERATED = (
    (README, "models", models_table),
    (README, "map", code_map),
    (BENCHMARKS / "README.md", "speed", speed_tables),
    (BENCHMARKS / "README.md", "peers", peers_tables),
    (BENCHMARKS / "README.md", "scale", scale_tables),
    (BENCHMARKS / "README.md", "overlap", overlap_table),
    (BENCHMARKS / "README.md", "loader", loader_table),
)


def generated_part(text: str, name: str) -> re.Match[str]:
    found = re.search(rf"(<!-- generated: {name} -->\n)(.*?)(\n<!-- end -->)", text, re.DOTALL)
    assert found, f"there is no generated part {name!r}"
    return found


def fenced(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def tour() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in fenced("bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize(("path", "name", "make"), GENERATED, ids=[name for _, name, _ in GENERATED])
def test_generated_parts_are_up_to_date(path: Path, name: str, make: Callable[[], str]) -> None:
    assert generated_part(path.read_text("utf-8"), name)[2] == make(), "run python tests/test_docs.py"


def test_it_opens_with_the_two_commands() -> None:
    first, second = fenced("sh")
    assert "upscale benchmarks/photos" in first
    assert second.rstrip().endswith("pytest")
    for command in (first, second):
        assert command.count("\n") == 1
        assert "-c constraints.txt" in command


@pytest.fixture(scope="module")
def folder_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's commands speak of, in small."""
    folder = tmp_path_factory.mktemp("readme")
    with Image.open(BENCHMARKS / "photos" / "spices.jpg") as image:
        photo = image.convert("RGB")
    for name, box in {
        "photo.jpg": (0, 0, 40, 30),
        "photos/market.jpg": (100, 100, 148, 132),
        "photos/trip/spoon.png": (300, 200, 331, 224),
        "Set5/baby.png": (200, 100, 264, 164),
        "train/one.png": (0, 0, 240, 240),
        "valid/two.png": (300, 100, 420, 220),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo.crop(box).save(folder / name)
    grey = np.asarray(photo.convert("L").crop((0, 0, 30, 20)), np.uint16) * 257
    Image.fromarray(grey).save(folder / "scan.tif")
    clip(folder / "film.mp4", times=[0, 512, 1024])
    return folder


def invoke(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    from upscale_cli.cli.app import main

    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


@pytest.mark.parametrize("command", tour())
def test_the_tour_runs(
    command: str, folder_of_examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the README, in one folder, so that later commands find what earlier ones made."""
    monkeypatch.chdir(folder_of_examples)
    words = shlex.split(command)
    assert words[0] == "upscale"
    code = invoke(words, monkeypatch)
    assert code == 0, "".join(capsys.readouterr())


def test_the_python_example_runs(folder_of_examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of_examples)
    (example,) = fenced("python")
    exec(compile(example, "README.md", "exec"), {})
    with Image.open("photo.jpg") as before, Image.open("photo_x2.png") as after:
        assert after.size == (2 * before.width, 2 * before.height)


def commands() -> dict[str, typer.main.TyperCommand]:
    from upscale_cli.cli.app import app

    found: dict[str, typer.main.TyperCommand] = {}

    def walk(name: str, command: object) -> None:
        if subcommands := getattr(command, "commands", None):
            for word, each in subcommands.items():
                walk(f"{name} {word}", each)
        elif not getattr(command, "hidden", False):
            found[name] = command  # type: ignore[assignment]

    walk("upscale", typer.main.get_command(app))
    return found


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text("utf-8")
    missing = [name for name in commands() if name != "upscale run" and name not in text]
    assert missing == []


def test_every_option_in_the_readme_exists() -> None:
    from upscale_cli.cli.options import ALIASES

    known = {option for command in commands().values() for each in command.params for option in each.opts}
    known |= {option for command in commands().values() for each in command.params for option in each.secondary_opts}
    known |= {"--help", "--version", *ALIASES}
    spans = [*tour(), *(span for span in re.findall(r"`([^`\n]+)`", README.read_text("utf-8")) if "-" in span)]
    named = {option for span in spans for option in re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", span)}
    foreign = {"--group", "--check", "--nproc-per-node"}  # of pip, ruff and torchrun
    assert named - known - foreign == set()


def test_every_variable_in_the_readme_is_read() -> None:
    source = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r"`((?:UPSCALE|HF|XDG|HTTPS?|SSL|OMP)_[A-Z_]+)", README.read_text("utf-8")))
    # huggingface_hub, platformdirs, the HTTP client and torch read these.
    libraries = {"XDG_CACHE_HOME", "SSL_CERT_FILE", "OMP_NUM_THREADS", "HF_TOKEN", "HTTPS_PROXY"}
    assert {name for name in named if name not in source} <= libraries


def test_the_photographs_are_attributed(photos: list[Path]) -> None:
    from upscale_cli.weights.download import sha256_of

    text = (BENCHMARKS / "photos" / "ATTRIBUTION.md").read_text("utf-8")
    assert len(photos) == 8
    for path in photos:
        assert f"| `{path.name}` | `{sha256_of(path)}`" in text


def test_constraints_pin_what_the_project_names() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    requirements = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[\[>=]", requirement)[0].lower() for requirement in requirements}
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert names - pinned == set()


if __name__ == "__main__":
    for file, part, make in GENERATED:
        text = file.read_text("utf-8")
        span = generated_part(text, part).span(2)
        file.write_text(text[: span[0]] + make() + text[span[1] :], "utf-8")
