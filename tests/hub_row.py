"""Manifest rows, one of them on a local hub: what the tests of weights and of `upscale models` share."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils
import pytest
from mini_hub import COMMIT, MiniHub

from upscale_cli import manifest
from upscale_cli.manifest import Entry, Hub, License, to_json

BODY = hashlib.shake_256(b"weights").digest(300_000)
SOURCE = Hub("org/net", COMMIT, "sub/net.safetensors")
ENTRY = Entry(
    name="net-x4",
    model="net",
    variant="edsr/x4",
    task="upscale",
    scale=4,
    parameters=1,
    status="published",
    summary="A network on the hub",
    source=SOURCE,
    size=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    keys_sha256="0" * 64,
    license=License("CC0-1.0", "A. Author", True, (), None),
)


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MiniHub]:
    """A hub that holds `BODY`, found through HF_ENDPOINT; no proxy, token or shared cache of the machine interferes."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with MiniHub() as hub:
        hub.files[SOURCE.repo_id, SOURCE.path] = BODY
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
    huggingface_hub.utils.close_session()


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path, *entries: Entry) -> None:
    """Have upscale come with these rows alone, and no imported models."""
    document = folder / "shipped.json"
    document.write_text(json.dumps({"schema": 1, "models": {entry.name: to_json(entry) for entry in entries}}))
    monkeypatch.setattr(manifest, "_own_path", lambda: document)
    monkeypatch.setenv("UPSCALE_MODELS", str(folder / "models"))
