"""The hub over real HTTP, with the real huggingface_hub client: a local server that fails on demand."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.utils
import pytest
from hub_row import BODY, ENTRY, SOURCE, serve
from mini_hub import COMMIT, MiniHub

from upscale_cli.errors import WeightsError
from upscale_cli.manifest import Entry, Hub
from upscale_cli.weights import download as downloads
from upscale_cli.weights import source
from upscale_cli.weights.download import Patience, download
from upscale_cli.weights.source import local, locate, verify

SHORT = Patience(connect_seconds=1, read_seconds=0.4, attempts=3, first_wait_seconds=0.01, lock_seconds=0.2)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MiniHub]:
    with serve(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def bring(target: Path, *, patience: Patience = SHORT, entry: Entry = ENTRY) -> None:
    assert isinstance(entry.source, Hub)
    assert entry.size is not None
    assert entry.sha256 is not None
    download(entry.source, target, size=entry.size, sha256=entry.sha256, patience=patience)


def failure(target: Path, *, patience: Patience = SHORT, entry: Entry = ENTRY) -> str:
    with pytest.raises(WeightsError) as caught:
        bring(target, patience=patience, entry=entry)
    assert not target.exists()
    return str(caught.value)


def ranges(hub: MiniHub) -> list[str | None]:
    return [span for method, _, span, _ in hub.log if method == "GET"]


def test_fetches_once_with_progress(hub: MiniHub, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = locate(ENTRY, cache_dir=cache, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == BODY
    assert path == cache / f"{ENTRY.sha256}.safetensors"
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [(m, p, code) for m, p, _, code in hub.log] == [
        ("GET", f"/org/net/resolve/{COMMIT}/sub/net.safetensors", 200)
    ]
    assert not list(cache.glob("*.part"))


@pytest.mark.usefixtures("no_socket")
def test_cached_and_pinned_opens_no_socket(tmp_path: Path) -> None:
    path = tmp_path / f"{ENTRY.sha256}.safetensors"
    path.write_bytes(BODY)
    assert locate(ENTRY, cache_dir=tmp_path) == path
    assert locate(ENTRY, cache_dir=tmp_path, offline=True) == path
    assert verify(ENTRY, cache_dir=tmp_path).state == "ok"


@pytest.mark.usefixtures("no_socket")
@pytest.mark.parametrize("switch", ["--offline", "HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=yes"])
def test_offline_without_cache_names_switch_file_size_and_way_out(
    switch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    name, _, value = switch.partition("=")
    if value:
        monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError) as caught:
        locate(ENTRY, offline=not value, cache_dir=tmp_path)
    message = str(caught.value)
    for words in (switch, "sub/net.safetensors from org/net", "0.3 MB", "`upscale models fetch net-x4`"):
        assert words in message


def test_the_shared_hub_cache_is_used_without_a_copy(hub: MiniHub, cache: Path, tmp_path: Path) -> None:
    shared = huggingface_hub.hf_hub_download(
        "org/net", "sub/net.safetensors", revision=COMMIT, endpoint=hub.url, cache_dir=tmp_path / "hf"
    )
    hub.log.clear()
    assert locate(ENTRY, cache_dir=cache) == Path(shared)
    assert local(ENTRY, cache_dir=cache) == Path(shared)
    assert hub.log == []
    assert not list(cache.glob("*.safetensors"))


def test_a_corrupt_shared_file_is_left_alone_and_replaced_by_our_own(hub: MiniHub, cache: Path, tmp_path: Path) -> None:
    hub.faults["corrupt"] = True
    shared = Path(
        huggingface_hub.hf_hub_download(
            "org/net", "sub/net.safetensors", revision=COMMIT, endpoint=hub.url, cache_dir=tmp_path / "hf"
        )
    )
    wrong = shared.read_bytes()
    assert wrong != BODY
    hub.faults.clear()
    path = locate(ENTRY, cache_dir=cache)
    assert path.read_bytes() == BODY
    assert path.parent == cache
    assert shared.read_bytes() == wrong


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"repo_id": "org/none"}, "RepoNotFound"),
        ({"revision": "b" * 40}, "RevisionNotFound"),
        ({"path": "none.safetensors"}, "EntryNotFound"),
    ],
)
def test_absent_on_the_hub_is_said_once(hub: MiniHub, cache: Path, change: dict[str, str], code: str) -> None:
    message = failure(cache / "net", entry=replace(ENTRY, source=replace(SOURCE, **change)))
    assert "HTTP 404" in message
    assert code in message
    assert len(hub.log) == 1
    assert not (cache / "net.part").exists()


@pytest.mark.parametrize(("status", "words"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (410, "update upscale")])
def test_refusals_are_not_retried_and_say_the_way_out(hub: MiniHub, cache: Path, status: int, words: str) -> None:
    hub.faults.update(status=status, status_times=99)
    message = failure(cache / "net")
    assert f"HTTP {status}" in message
    assert words in message
    assert len(hub.log) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_two_passing_faults_are_waited_out(hub: MiniHub, cache: Path, status: int) -> None:
    hub.faults.update(status=status, status_times=2)
    bring(cache / "net")
    assert [code for *_, code in hub.log] == [status, status, 200]


def test_503_for_ever_keeps_its_cause_and_ends(hub: MiniHub, cache: Path) -> None:
    hub.faults.update(status=503, status_times=99)
    message = failure(cache / "net")
    assert "HTTP 503 Service Unavailable" in message
    assert "HF_ENDPOINT" in message
    assert len(hub.log) == SHORT.attempts


def test_retry_after_is_honoured(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    hub.faults.update(status=429, status_times=1, retry_after=7)
    bring(cache / "net")
    assert 7.0 in waits
    hub.faults.update(status=429, status_times=99, retry_after=3600)
    assert "Try again in 3600 seconds" in failure(cache / "other")


def test_a_cut_body_is_resumed_from_the_byte(hub: MiniHub, cache: Path) -> None:
    hub.faults.update(drop_after=100_000, times=1)
    bring(cache / "net")
    assert (cache / "net").read_bytes() == BODY
    first, second = ranges(hub)
    assert first is None
    assert second == "bytes=100000-"


def test_a_server_without_ranges_starts_over(hub: MiniHub, cache: Path) -> None:
    hub.faults.update(drop_after=100_000, times=1, no_range=True)
    bring(cache / "net")
    assert (cache / "net").read_bytes() == BODY


def test_a_body_cut_for_ever_ends_and_keeps_what_came(hub: MiniHub, cache: Path) -> None:
    hub.faults.update(drop_after=0, times=99)
    (cache).mkdir()
    (cache / "net.part").write_bytes(BODY[:1000])
    message = failure(cache / "net")
    assert "the connection broke after 1,000 bytes" in message
    assert "1,000 of 300,000 bytes are kept" in message
    assert (cache / "net.part").read_bytes() == BODY[:1000]


@pytest.mark.parametrize("left", [BODY[:5000], BODY, b"x" * 5000, b"x" * 300_000, b"x" * 400_000])
def test_whatever_an_earlier_run_left_the_result_is_right(hub: MiniHub, cache: Path, left: bytes) -> None:
    cache.mkdir()
    (cache / "net.part").write_bytes(left)
    bring(cache / "net")
    assert (cache / "net").read_bytes() == BODY
    if left == BODY:
        assert hub.log == []


def test_same_size_corruption_is_tried_twice_and_shows_both_hashes(hub: MiniHub, cache: Path) -> None:
    hub.faults["corrupt"] = True
    message = failure(cache / "net")
    wrong = hashlib.sha256(bytes([BODY[0] ^ 1]) + BODY[1:]).hexdigest()
    assert wrong in message
    assert str(ENTRY.sha256) in message
    assert len(hub.log) == 2
    assert not (cache / "net.part").exists()


def test_corruption_that_passes_is_healed(hub: MiniHub, cache: Path) -> None:
    cache.mkdir()
    target = cache / f"{ENTRY.sha256}.safetensors"
    target.write_bytes(b"x" * len(BODY))
    assert locate(ENTRY, cache_dir=cache).read_bytes() == BODY


def test_another_size_is_refused_before_the_body(hub: MiniHub, cache: Path) -> None:
    hub.files["org/net", "sub/net.safetensors"] = BODY + b"more"
    message = failure(cache / "net")
    assert "holds 300,004 bytes" in message
    assert "the pinned file has 300,000" in message


def test_a_stalled_server_is_bounded(hub: MiniHub, cache: Path) -> None:
    hub.faults["stall"] = 3
    message = failure(cache / "net")
    assert "cannot be reached (ReadTimeout" in message
    assert threading.active_count() < 50


def test_nobody_listening_is_bounded(cache: Path, hub: MiniHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
    assert f"{address} cannot be reached (ConnectError" in failure(cache / "net")


@pytest.mark.parametrize("endpoint", ["not an address", "ftp://host", "https://"])
def test_a_bad_endpoint_is_named(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert f"HF_ENDPOINT is {endpoint!r}" in failure(cache / "net")


def test_the_token_goes_along(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[str | None] = []
    handler: Any = hub.server.RequestHandlerClass
    answer = handler.do_GET

    def listen(self: Any) -> None:
        seen.append(self.headers.get("Authorization"))
        answer(self)

    monkeypatch.setattr(handler, "do_GET", listen)
    bring(cache / "net")
    assert seen == ["Bearer hf_secret"]


def test_the_proxy_is_used(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The local hub is the proxy: it is asked for the absolute address of a host that does not exist.
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    huggingface_hub.utils.close_session()
    bring(cache / "net")
    assert hub.log[0][1] == f"http://hub.invalid/org/net/resolve/{COMMIT}/sub/net.safetensors"


def test_a_bad_proxy_setting_is_named(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://proxy:1")
    huggingface_hub.utils.close_session()
    assert "HTTPS_PROXY" in failure(cache / "net")


def test_full_disk_is_said_before_the_first_byte(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: downloads.shutil._ntuple_diskusage(9, 9, 1_000_000))
    message = failure(cache / "net")
    assert f"{cache} has 1 MB free, the download needs 16 MB" in message
    assert "UPSCALE_CACHE" in message
    assert hub.log == []


def test_a_cache_that_cannot_be_made_is_named(hub: MiniHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot be written: .*--cache-dir") as caught:
        locate(ENTRY, cache_dir=tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in str(caught.value)
    assert hub.log == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_named(hub: MiniHub, cache: Path) -> None:
    cache.mkdir(mode=0o555)
    with pytest.raises(WeightsError, match=r"cannot be written: Permission denied"):
        locate(ENTRY, cache_dir=cache)


SCRIPT = """
import sys
from pathlib import Path
from hub_row import ENTRY
from upscale_cli.errors import WeightsError
from upscale_cli.weights.source import locate
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    print(locate(ENTRY, cache_dir=Path(sys.argv[1])))
except WeightsError as error:
    sys.exit(str(error))
"""


def start(cache: Path, *options: str) -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        "HF_HUB_CACHE": str(cache / "hf"),
    }
    command = [sys.executable, "-c", SCRIPT, str(cache), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_download_resumes_where_it_was(hub: MiniHub, cache: Path) -> None:
    hub.faults["bps"] = 150_000
    part = cache / f"{ENTRY.sha256}.safetensors.part"
    process = start(cache)
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 40_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.stat().st_size
    assert 40_000 < kept < len(BODY)
    assert not part.with_suffix("").exists()
    hub.faults.clear()
    hub.log.clear()
    assert locate(ENTRY, cache_dir=cache).read_bytes() == BODY
    assert ranges(hub) == [f"bytes={kept}-"]


def test_two_processes_at_once_make_one_transfer(hub: MiniHub, cache: Path) -> None:
    hub.faults["bps"] = 400_000
    both = [start(cache), start(cache)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert [(method, span, code) for method, _, span, code in hub.log] == [("GET", None, 200)]
    assert (cache / f"{ENTRY.sha256}.safetensors").read_bytes() == BODY


def test_a_disk_that_fills_up_leaves_no_final_file(hub: MiniHub, cache: Path) -> None:
    process = start(cache, "120000")
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot be written: File too large" in message
    assert "Traceback" not in message
    assert not list(cache.glob("*.safetensors"))
    assert locate(ENTRY, cache_dir=cache).read_bytes() == BODY
    assert ranges(hub)[-1] == "bytes=120000-"


def test_a_dead_holder_of_the_lock_is_reported(hub: MiniHub, cache: Path) -> None:
    from filelock import FileLock

    cache.mkdir()
    with FileLock(cache / "net.lock"):
        assert "its download stands still" in failure(cache / "net")
    bring(cache / "net")


def test_a_run_with_verified_weights_hashes_nothing(hub: MiniHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locate(ENTRY, cache_dir=cache)
    monkeypatch.setattr(source, "sha256_of", lambda path: pytest.fail(f"{path} was hashed again"))
    assert locate(ENTRY, cache_dir=cache).read_bytes() == BODY
