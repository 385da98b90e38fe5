"""Reading what should not be read: each fault is one InputError that names the file, the reason and the way out."""

import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import PHOTOS, chunk, exif, frame, photo, png, read, write
from PIL import Image, ImageFile

from upscale_cli.errors import InputError
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import DEFAULT_MAX_PIXELS, ImageSource, probe


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.webp", "a.avif", "a.gif", "a.bmp", "a.tif", "deep.png", "deep.tif"]
)
def test_truncated_files_are_errors(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, frame(depth=16 if name.startswith("deep") else 8))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    if name in ("a.jpg", "a.png", "a.gif", "a.bmp", "deep.png"):
        assert "truncated" in str(caught.value)
        assert "--allow-truncated" in str(caught.value)


def test_a_truncated_photograph_can_be_salvaged(tmp_path: Path) -> None:
    data = (PHOTOS / "dunes.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path / "a.jpg")
    (found,), _, notes = read(tmp_path / "a.jpg", allow_truncated=True)
    assert notes == ["not whole: what could be read of it was kept"]
    assert read(PHOTOS / "dunes.jpg", allow_truncated=True)[2] == []
    with Image.open(PHOTOS / "dunes.jpg") as image:
        whole = np.array(image)
    assert np.array_equal(found.color[:200], whole[:200])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_strips_that_end_behind_the_file_are_truncated(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", photo(depth=16), photometric="rgb")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"truncated \(100 bytes"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [8, 16])
def test_a_damaged_png_is_an_error(tmp_path: Path, depth: int) -> None:
    write(tmp_path / "a.png", frame(depth=depth))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png"):
        read(tmp_path / "a.png")


def test_a_png_whose_pixels_differ_from_their_checksum(tmp_path: Path) -> None:
    """The damage deflates well: only the checksum of the chunk shows it."""
    whole = png(photo(), 2, depth=8)
    rows = zlib.decompress(whole[41 : whole.rindex(b"IEND") - 8])
    other = zlib.compress(rows[:-1] + bytes([rows[-1] ^ 1]))
    at = whole.index(b"IDAT") - 4
    crc = chunk(b"IDAT", zlib.compress(rows))[-4:]
    damaged = whole[:at] + struct.pack(">I", len(other)) + b"IDAT" + other + crc + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(damaged)
    with pytest.raises(InputError, match="IDAT chunk does not match its checksum"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("depth", [8, 16])
def test_a_header_that_lies_about_the_size(tmp_path: Path, depth: int) -> None:
    head = struct.pack(">IIBBBBB", 9000, 9000, depth, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(InputError):
        read(tmp_path / "a.png")


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    tracemalloc.start()
    with pytest.raises(InputError, match="--max-pixels") as caught:
        read(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{DEFAULT_MAX_PIXELS:,}" in str(caught.value)
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.gif", "a.webp", "a.png"])
def test_the_limit_is_exact_and_can_be_raised(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, frame())
    assert probe(tmp_path / name, max_pixels=60 * 45).width == 60
    with pytest.raises(InputError, match=r"60 x 45 = 2,700 pixels.*2,699.*--max-pixels"):
        probe(tmp_path / name, max_pixels=60 * 45 - 1)
    with pytest.raises(InputError, match="--max-pixels"):
        probe(tmp_path / name, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 89478485


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.png", b"", "empty"),
        ("a.png", b"this is a letter, not a picture", "not a picture"),
        ("a.jpg", b"\xff\xd8\xff", "not a picture"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        ("a.pdf", b"%PDF-1.7\n", "PDF"),
        ("a.svg", b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("a.wmf", b"\xd7\xcd\xc6\x9a" + bytes(60), "metafile"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "damaged|HEIC picture"),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "damaged|HEIC picture"),
        ("a.mp4", b"\0\0\0\x18ftypisom\0\0\2\0isommp42", "video"),
        ("a.jxl", b"\xff\x0a" + bytes(20), "JPEG XL"),
        ("a.exr", b"\x76\x2f\x31\x01" + bytes(20), "OpenEXR"),
        ("a.nef", b"II*\0\x08\0\0\0" + bytes(20), "RAW photograph"),
        ("a.psd", b"8BPS" + bytes(20), "Photoshop"),
        ("a.tif", b"II*\0\x08\0\0\0" + bytes(20), "a.tif"),
        ("a.png", png(photo(), 2, depth=8).replace(struct.pack(">I", 60), bytes(4), 1), "a.png"),
        ("a.pcx", b"\x0a\x05\x01\x08" + bytes(124), "not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        probe(tmp_path / name)
    assert name in str(caught.value)


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(InputError):
        probe(tmp_path / "a.jpg")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, says in (("x.png", "not a file"), ("pipe.png", "not a file"), ("none.png", "No such file")):
        with pytest.raises(InputError, match=says):
            probe(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame())
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        probe(tmp_path / "a.png")


def test_a_name_that_is_no_text_can_be_read_and_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n.png"))
    write(path, frame())
    assert len(read(path)[0]) == 1
    path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        probe(path)
    str(caught.value).encode("utf-8")


def test_damaged_metadata_is_dropped_with_a_note_and_the_picture_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(photo())
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(30), icc_profile=b"no profile" * 30)
    (found,), metadata, notes = read(tmp_path / "a.jpg")
    assert found.color.shape == (45, 60, 3)
    assert metadata.exif is None
    assert metadata.icc is None
    assert [note.split(":")[0] for note in notes] == ["colour profile dropped", "EXIF dropped"]


def test_exif_with_a_value_cut_off_keeps_the_others(tmp_path: Path) -> None:
    whole = exif()
    cut = whole[: whole.index(b"RF 24-70") + 3]
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + cut)
    _, metadata, notes = read(tmp_path / "a.jpg")
    assert "kept" in notes[0]
    assert write(tmp_path / "b.avif", frame(), metadata=metadata) == []
    with Image.open(tmp_path / "b.avif") as image:
        assert image.getexif()[0x010F] == "Canon"
        assert image.getexif().get_ifd(0x8769)[0x8827] == 400


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    """In a program of its own, where no test plug-in catches warnings, log lines or what C libraries print."""
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"no profile" * 30))
    (tmp_path / "a.png").write_bytes(png(photo(depth=16), 2, before=profile + chunk(b"eXIf", exif()[:60])))
    tifffile.imwrite(tmp_path / "a.tif", photo(depth=16), photometric="rgb", extratags=[(34665, 4, 1, 99999999, True)])
    Image.fromarray(photo()).save(tmp_path / "b.jpg", exif=b"Exif\0\0" + exif()[:80])
    code = (
        "import sys\nfrom pathlib import Path\nfrom upscale_cli.media.image import ImageSource\n"
        "for name in sys.argv[1:]:\n with ImageSource(Path(name)) as s:\n  list(s.frames()); s.metadata\n"
    )
    paths = [str(tmp_path / name) for name in ("a.png", "a.tif", "b.jpg")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_readers_in_threads_share_pillows_settings_in_turn(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame())
    data = (PHOTOS / "dunes.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    wrong: list[str] = []

    def strict() -> None:
        for _ in range(10):
            try:
                read(tmp_path / "cut.jpg")
                wrong.append("a strict reader took a truncated file")
            except InputError:
                pass

    def lenient() -> None:
        for _ in range(10):
            read(tmp_path / "cut.jpg", allow_truncated=True)

    before = list(warnings.filters)
    threads = [threading.Thread(target=each) for each in (strict, lenient, strict)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert warnings.filters == before


def test_a_file_that_vanishes_between_opening_and_reading(tmp_path: Path) -> None:
    write(tmp_path / "a.png", Frame(photo(depth=16)))
    with ImageSource(tmp_path / "a.png") as source:
        (tmp_path / "a.png").unlink()
        with pytest.raises(InputError, match="No such file"):
            list(source.frames())


def test_a_compression_that_nobody_reads_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.tif", compression="tiff_lzw")
    entry = struct.pack("<HHIHH", 259, 3, 1, 5, 0)
    data = (tmp_path / "a.tif").read_bytes()
    assert data.count(entry) == 1
    (tmp_path / "a.tif").write_bytes(data.replace(entry, struct.pack("<HHIHH", 259, 3, 1, 50001, 0)))
    with pytest.raises(InputError, match="its WEBP compression cannot be read at 8 bits; save it without compression"):
        read(tmp_path / "a.tif")
    assert capfd.readouterr().err == "", "libtiff had its say, too"
