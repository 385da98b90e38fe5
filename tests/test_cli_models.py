"""`upscale models` as a user meets it: output, JSON, exit codes, and an answer before torch is imported."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from filelock import FileLock
from hub_row import BODY, ENTRY, serve, ship
from mini_hub import MiniHub
from typer.testing import CliRunner, Result

from upscale_cli import zoo
from upscale_cli.cli.models import app
from upscale_cli.cli.models import options as model_options
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import Entry, License, load_manifest
from upscale_cli.weights import source
from upscale_cli.weights.formats import save

OTHER = Entry("other-x2", "other", "edsr/x2", "upscale", 2, 7, "untrained", "Nobody trained it", keys_sha256="0" * 64)
FORMULA = Entry("bicubic-x2", "bicubic", "bicubic/x2", "upscale", 2, 0, "formula", "A formula")
PRIVATE = replace(
    ENTRY, name="private-x4", model="private", license=License("CC-BY-NC-4.0", "B. Author", False, (), None)
)
ENCODER = replace(ENTRY, name="eye", model="eye", task="encoder", scale=1)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MiniHub]:
    """A manifest with one row on a local hub, one untrained, one formula."""
    ship(monkeypatch, tmp_path, ENTRY, OTHER, FORMULA)
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    with serve(monkeypatch, tmp_path) as server:
        yield server


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def everything_ships(hub: MiniHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One row of each kind, all on the hub that is one file."""
    ship(monkeypatch, tmp_path, ENTRY, OTHER, FORMULA, PRIVATE, ENCODER)


def test_list_shows_every_row_once() -> None:
    lines = [re.split(r"\s{2,}", line.strip()) for line in call("list").stdout.splitlines() if line.strip()]
    assert lines[0] == ["model", "scale", "params", "size", "licence", "status", "Set5", "BSD100"]
    rows = {line[0]: line for line in lines[1:] if len(line) == 8}
    manifest = load_manifest()
    shown = [*(entry for entry in manifest.entries if entry.usable), *manifest.encoders]
    assert sorted(rows) == sorted(entry.name for entry in shown)
    assert {"x4", "1,517,571", "bundled"} <= set(rows["edsr-x4"])


def test_list_groups_and_only_names_what_has_no_weights(
    everything_ships: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ship(monkeypatch, tmp_path, ENTRY, OTHER, replace(OTHER, name="other-x3", scale=3), FORMULA, ENCODER)
    lines = [line for line in call("list").stdout.splitlines() if line.strip()]
    assert [line.split()[0] for line in lines[:-1]] == ["model", "net-x4", "bicubic-x2", "encoders", "eye"]
    assert lines[-1] == "no weights yet (train them, or import some): other x2 x3"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--usable"], ["net-x4", "bicubic-x2", "private-x4"]),
        (["--status", "untrained"], ["other-x2"]),
        (["--status", "formula"], ["bicubic-x2"]),
        (["--status", "imported"], []),
    ],
)
def test_list_can_be_narrowed(options: list[str], names: list[str], everything_ships: None) -> None:
    lines = [re.split(r"\s{2,}", line) for line in call("list", *options).stdout.splitlines()[1:]]
    assert [line[0] for line in lines if len(line) == 8] == names
    assert list(json.loads(call("list", "--json", *options).stdout)["models"]) == names


@pytest.mark.parametrize("columns", [100, 80, 60, 40])
def test_list_fits_any_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in call("list").stdout.splitlines()]
    assert all(len(line) <= columns for line in lines)
    assert sum(line.startswith("edsr-x4 ") and " x4 " in line and "bundled" in line for line in lines) == 1
    assert ("A wider terminal shows" in " ".join(lines)) == (columns < 100)


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
    assert "net-x4 (0.3 MB) is not on this machine. Fetch it with `upscale models fetch net-x4`." in str(refused)
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


def test_fetch_all_takes_what_has_weights(hub: MiniHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, tmp_path, ENTRY, OTHER, FORMULA, ENCODER)
    rows = json.loads(call("fetch", "--all", "--json", "--cache-dir", str(tmp_path / "here")).stdout)["models"]
    assert [(row["name"], row["error"]) for row in rows] == [("net-x4", None), ("eye", None)]
    assert Path(rows[0]["path"]).parent == tmp_path / "here"


def test_one_failed_fetch_does_not_stop_the_others(hub: MiniHub, tmp_path: Path) -> None:
    done = call("fetch", "other", "net")
    assert done.exit_code == 1
    assert "net-x4: " in done.stdout
    assert "No weights for other-x2 come with upscale. Import those you have" in done.stderr
    hub.files.clear()
    assert "HTTP 404" in call("fetch", "net", "--cache-dir", str(tmp_path / "new")).stderr


def test_an_encoder_is_fetched_but_makes_no_picture(everything_ships: None) -> None:
    assert call("fetch", "eye").exit_code == 0
    assert "eye" in call("info", "eye").stdout
    with pytest.raises(UsageError, match="eye is an encoder"):
        load_manifest().find("eye")


def test_a_licence_that_nobody_can_be_asked_about(everything_ships: None, hub: MiniHub) -> None:
    for arguments in (["private"], ["private", "--json"], ["--all"]):
        error = call("fetch", *arguments).exception
        assert isinstance(error, UsageError)
        assert "private-x4 by B. Author is CC-BY-NC-4.0: no commercial use." in str(error)
        assert "--accept-license" in str(error)
    assert hub.log == []


def test_a_run_names_the_command_to_agree_with(everything_ships: None, hub: MiniHub) -> None:
    with pytest.raises(WeightsError, match="`upscale models fetch private-x4 --accept-license`"):
        source.locate(PRIVATE)
    assert hub.log == []


def test_a_licence_is_agreed_to_once(everything_ships: None, tmp_path: Path) -> None:
    assert call("fetch", "private", "--accept-license").exit_code == 0
    assert call("fetch", "private").exit_code == 0
    assert source.locate(PRIVATE, offline=True).read_bytes() == BODY
    # and for this licence and row alone
    stricter = replace(PRIVATE, license=License("CC-BY-NC-ND-4.0", "B. Author", False, (), None))
    for other in (stricter, replace(PRIVATE, name="other-x4")):
        with pytest.raises(WeightsError, match="no commercial use"):
            source.locate(other)


def test_the_variable_agrees_to_licences(everything_ships: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_ACCEPT_LICENSE", "1")
    assert call("fetch", "private").exit_code == 0
    monkeypatch.delenv("UPSCALE_ACCEPT_LICENSE")
    assert isinstance(call("fetch", "private").exception, UsageError)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_fetch_asks_for_agreement(
    answer: str, code: int, everything_ships: None, hub: MiniHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(model_options, "sys", terminal)
    done = CliRunner().invoke(app, ["fetch", "private"], input=f"{answer}\n")
    assert done.exit_code == code
    assert "CC-BY-NC-4.0: no commercial use. Do you agree? [y/N]" in done.output
    assert bool(hub.log) == (code == 0)


@pytest.fixture
def full_cache(hub: MiniHub, tmp_path: Path) -> Path:
    call("fetch", "net")
    folder = tmp_path / "cache"
    (folder / f"{'1' * 64}.safetensors").write_bytes(b"x" * 2000)
    (folder / f"{'2' * 64}.bin").write_bytes(b"x" * 3000)
    (folder / f"{ENTRY.sha256}.safetensors.part").write_bytes(b"x" * 500)
    (folder / f"{'3' * 64}.bin.part" / "pip").mkdir(parents=True)
    (folder / f"{'3' * 64}.bin.part" / "pip" / "piece").write_bytes(b"x" * 700)
    (folder / "notes.txt").write_text("the user's")
    (folder / "family.safetensors").write_bytes(b"the user's")
    return folder


def test_prune_dry_run_deletes_nothing(full_cache: Path) -> None:
    before = sorted(full_cache.rglob("*"))
    shown = call("prune", "--dry-run").stdout
    assert f"{'1' * 64}.safetensors: 2.0 kB, no model needs it" in shown
    assert f"{'3' * 64}.bin.part: 0.7 kB, unfinished download" in shown
    assert len(shown.splitlines()) == 4
    assert sorted(full_cache.rglob("*")) == before


def test_prune_asks(full_cache: Path) -> None:
    error = call("prune").exception
    assert isinstance(error, UsageError)
    assert "Delete 4 files (6.2 kB)? Add --yes" in str(error)


def test_prune_deletes_what_no_row_needs(full_cache: Path) -> None:
    assert call("prune", "-y").stdout.splitlines()[-1] == "Deleted: 6.2 kB."
    kept = {path.name for path in full_cache.iterdir() if path.suffix != ".lock"}
    assert kept == {f"{ENTRY.sha256}.safetensors", "verified", "notes.txt", "family.safetensors"}
    assert call("verify", "net").exit_code == 0
    assert "Nothing to delete" in call("prune").stdout


def test_prune_all_is_everything_downloaded(full_cache: Path) -> None:
    rows = json.loads(call("prune", "--all", "-y", "--json").stdout)
    assert [row["reason"] for row in rows["files"]].count("downloaded") == 1
    kept = {path.name for path in full_cache.iterdir() if path.suffix != ".lock"}
    assert kept == {"verified", "notes.txt", "family.safetensors"}
    assert list((full_cache / "verified").iterdir()) == []


def test_prune_leaves_a_running_download_alone(full_cache: Path) -> None:
    with FileLock(full_cache / f"{ENTRY.sha256}.safetensors.lock"):
        assert f"{ENTRY.sha256}" not in call("prune", "--dry-run").stdout


def test_prune_without_a_cache(hub: MiniHub, tmp_path: Path) -> None:
    assert "Nothing to delete" in call("prune", "--cache-dir", str(tmp_path / "none")).stdout


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


@pytest.mark.parametrize("command", ["list", "info", "fetch", "verify", "path", "row", "import", "remove", "prune"])
def test_every_command_shows_an_example_of_itself(command: str) -> None:
    shown = " ".join(call(command, "--help").stdout.split())
    assert re.findall(r"Example: upscale models (\S+)", shown) == [command]


@pytest.mark.parametrize(
    "command",
    ["list --usable", "info edsr-x4", "verify", "path lightweight -s 2", "fetch lightweight", "prune --dry-run"],
)
def test_the_examples_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    assert call(*command.split()).exit_code == 0
