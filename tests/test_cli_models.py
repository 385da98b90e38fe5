"""`upscale models` as a user meets it: output, JSON, exit codes, and an answer before torch is imported."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_row import BODY, ENTRY, serve
from mini_hub import MiniHub
from typer.testing import CliRunner, Result

from upscale_cli import zoo
from upscale_cli.cli import models
from upscale_cli.cli.models import app
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import Entry, Manifest, load_manifest
from upscale_cli.weights.formats import save

OTHER = Entry("other-x2", "other", "edsr/x2", "upscale", 2, 7, "untrained", "Nobody trained it")
FORMULA = Entry("bicubic-x2", "bicubic", "bicubic/x2", "upscale", 2, 0, "formula", "A formula")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MiniHub]:
    """A manifest with one row on a local hub, one untrained, one formula."""
    monkeypatch.setattr(models, "load_manifest", lambda: Manifest((ENTRY, OTHER, FORMULA)))
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    with serve(monkeypatch, tmp_path) as server:
        yield server


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_list_shows_every_row_once() -> None:
    lines = call("list").stdout.splitlines()
    assert lines[0].split() == ["model", "scale", "params", "size", "licence", "status", "Set5", "BSD100"]
    assert [line.split()[0] for line in lines[1:]] == [entry.name for entry in load_manifest().entries]
    row = next(line for line in lines if line.startswith("edsr-x4 "))
    assert {"x4", "1,517,571"} <= set(row.split())
    assert max(map(len, lines)) <= 80


def test_list_as_json_is_the_manifest_and_where_the_files_are() -> None:
    rows = json.loads(call("list", "--json").stdout)["models"]
    assert list(rows) == [entry.name for entry in load_manifest().entries]
    assert (rows["edsr-x4"]["parameters"], rows["edsr-x4"]["scale"]) == (1517571, 4)
    assert rows["bicubic-x2"]["local"] is None


def test_list_answers_without_torch() -> None:
    script = (
        "import sys\nfrom upscale_cli.cli.models import app\n"
        "try: app(['list'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'huggingface_hub', 'cv2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "bicubic-x4" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_info_of_a_family_shows_all_its_rows(hub: MiniHub) -> None:
    shown = call("info", "net").stdout
    for words in ("net-x4", "org/net at aaaa", "not on this machine", "300,000 bytes", str(ENTRY.sha256), "CC0-1.0"):
        assert words in re.sub(r"\s*\n\s+", "", shown) or words in shown
    assert json.loads(call("info", "net-x4", "--json").stdout)["models"]["net-x4"]["size"] == 300_000
    assert hub.log == []


def test_unknown_names_get_a_suggestion(hub: MiniHub) -> None:
    for command in ("info", "fetch", "verify", "path"):
        error = call(command, "nte").exception
        assert isinstance(error, UsageError)
        assert "Did you mean 'net'?" in str(error)


def test_fetch_then_path_then_verify(hub: MiniHub, tmp_path: Path) -> None:
    path = tmp_path / "cache" / f"{ENTRY.sha256}.safetensors"
    refused = call("path", "net").exception
    assert isinstance(refused, WeightsError)
    assert "not on this machine (0.3 MB). Fetch it with `upscale models fetch net-x4`." in str(refused)
    assert call("fetch", "net").stdout == f"net-x4: {path}\n"
    assert path.read_bytes() == BODY
    assert call("path", "net").stdout == f"{path}\n"
    assert json.loads(call("path", "net", "-s", "3", "--json").stdout) == {"name": "net-x4", "path": str(path)}
    assert call("verify").stdout == f"net-x4: {path}\n"
    assert len(hub.log) == 1
    path.write_bytes(BODY[:-1] + b"x")
    bad = call("verify", "--json")
    assert bad.exit_code == 1
    (row,) = json.loads(bad.stdout)["models"]
    assert (row["state"], row["path"], row["expected"]) == ("corrupt", str(path), ENTRY.sha256)
    assert row["found"] in row["error"]
    assert call("fetch", "net-x4").exit_code == 0  # and fetch heals it
    assert call("verify").exit_code == 0


def test_fetch_all_takes_what_has_weights(hub: MiniHub, tmp_path: Path) -> None:
    rows = json.loads(call("fetch", "--all", "--json", "--cache-dir", str(tmp_path / "here")).stdout)["models"]
    assert [(row["name"], row["error"]) for row in rows] == [("net-x4", None)]
    assert Path(rows[0]["path"]).parent == tmp_path / "here"


def test_one_failed_fetch_does_not_stop_the_others(hub: MiniHub, tmp_path: Path) -> None:
    done = call("fetch", "other", "net")
    assert done.exit_code == 1
    assert "net-x4: " in done.stdout
    assert "Nobody has trained weights for other-x2" in done.stderr
    hub.files.clear()
    assert "HTTP 404" in call("fetch", "net", "--cache-dir", str(tmp_path / "new")).stderr


@pytest.mark.parametrize("arguments", [[], ["net", "--all"]])
def test_fetch_wants_names_or_all(arguments: list[str], hub: MiniHub) -> None:
    assert isinstance(call("fetch", *arguments).exception, UsageError)


def test_verify_with_nothing_here_and_of_an_absent_model(hub: MiniHub) -> None:
    nothing = call("verify")
    assert (nothing.exit_code, "No weights are on this machine" in nothing.stdout) == (0, True)
    absent = call("verify", "net")
    assert (absent.exit_code, "upscale models fetch net-x4" in absent.stderr) == (1, True)
    assert isinstance(call("verify", "other").exception, WeightsError)


def test_path_of_a_formula(hub: MiniHub) -> None:
    assert "is a formula" in str(call("path", "bicubic").exception)


def test_row_prints_what_the_manifest_takes(tmp_path: Path) -> None:
    path = tmp_path / "lightweight-x2.safetensors"
    save(path, zoo.find("lightweight/x2").build().state_dict(), {"variant": "lightweight/x2"})
    document = json.loads(call("row", str(path), "--trained-on", "A", "--trained-on", "B").stdout)
    assert document["lightweight-x2"]["license"]["trained_on"] == ["A", "B"]
    (tmp_path / "m.json").write_text(json.dumps({"schema": 1, "models": document}))
    assert load_manifest(tmp_path / "m.json").find("lightweight").status == "bundled"


@pytest.mark.parametrize("command", ["list", "info", "fetch", "verify", "path", "row"])
def test_every_command_shows_an_example_of_itself(command: str) -> None:
    shown = " ".join(call(command, "--help").stdout.split())
    (example,) = re.findall(r"Example: `upscale models ([^`]+)`", shown)
    assert example.split()[0] == command


@pytest.mark.parametrize("command", ["list", "info edsr-x4", "verify"])
def test_the_examples_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    assert call(*command.split()).exit_code == 0
