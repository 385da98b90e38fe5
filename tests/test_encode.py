"""Writing pictures: values come back, limits are told, and under a final name there is a whole file or none."""

import os
import resource
import stat
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from pictures import display_p3, exif, frame, photo, psnr, ramp, read, write
from PIL import Image

from upscale_cli.errors import OutputError
from upscale_cli.media import png, tiff
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.formats import EXTENSIONS, can_hold, size_fault
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import FORMATS, probe
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.pixels import on_white, to_depth

LOSSLESS = {"png", "tif", "bmp"}
DEEP = {"png", "tif"}
OPAQUE = {"jpg", "bmp"}
LEAST_PSNR = {"png": 98, "tif": 98, "bmp": 98, "jpg": 34, "avif": 34, "webp": 28, "gif": 22}  # lossy WebP halves colour


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "bmp", "gif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_every_kind_of_frame_in_every_format(
    tmp_path: Path, suffix: str, channels: int, depth: int, alpha: bool
) -> None:
    """Exact where the format is lossless, close where not; what it cannot hold is reduced as stated, with a note."""
    given = frame(channels=channels, depth=depth, alpha=alpha)
    path = tmp_path / f"a.{suffix}"
    notes = write(path, given)
    info = probe(path)
    (found,), _, _ = read(path)
    kept = depth if suffix in DEEP else 8
    color, clear = to_depth(given.color, kept), alpha and suffix not in OPAQUE
    if alpha and not clear:
        assert given.alpha is not None
        color = to_depth(on_white(given.color, given.alpha), kept)
    assert found.depth == info.depth == kept
    assert (found.alpha is not None) == info.alpha == clear
    assert bool(notes) == (depth > kept or alpha != clear or (alpha and suffix == "gif"))
    if suffix in LOSSLESS | {"jpg"} or (suffix == "avif" and not alpha):  # the others store grey as RGB
        assert found.channels == info.channels == channels
    want = color if found.channels == channels else np.repeat(color, 3, 2)
    shown = np.ones(want.shape[:2], bool) if found.alpha is None else found.alpha > 0
    assert psnr(found.color[shown], want[shown]) > LEAST_PSNR[suffix]
    if found.alpha is not None:
        assert given.alpha is not None
        want_alpha = to_depth(given.alpha, kept)
        if suffix == "gif":
            want_alpha = np.where(want_alpha < 128, 0, 255).astype(np.uint8)
        assert psnr(found.alpha, want_alpha) > (98 if suffix != "avif" else 40)


def test_reading_and_writing_know_the_same_formats() -> None:
    assert set(EXTENSIONS.values()) == set(FORMATS)


def test_other_libraries_read_16_bits_exactly(tmp_path: Path) -> None:
    pixels, alpha = photo(depth=16), ramp(depth=16)
    for name in ("a.png", "a.tif"):
        write(tmp_path / name, Frame(pixels, alpha))
        found = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(np.asarray(found), np.dstack([pixels[..., ::-1], alpha]))
        write(tmp_path / name, frame(channels=1, depth=16))
        found = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(np.asarray(found), photo(depth=16, channels=1)[..., 0])
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.array(image), photo(depth=16, channels=1)[..., 0])


def test_large_pictures_are_written_in_several_pieces(tmp_path: Path) -> None:
    """More than one filtered block in PNG, more than one strip in TIFF; every row is noise, so that none hides."""
    pixels = np.random.default_rng(0).integers(0, 65536, (1500, 2000, 3)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        write(tmp_path / name, Frame(pixels))
        (found,), _, _ = read(tmp_path / name)
        assert np.array_equal(found.color, pixels)
        assert np.array_equal(np.asarray(cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED))[..., ::-1], pixels)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "bmp", "gif"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_written_by_strips_or_whole_it_is_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, depth: int, alpha: bool
) -> None:
    """Strips of any height, those of a TIFF of another; with all metadata the format holds."""
    monkeypatch.setattr(tiff, "_STRIP_BYTES", 60 * 4 * 2 * 4)
    monkeypatch.setattr(png, "_CACHED_BYTES", 1000)
    given = frame(depth=depth, alpha=alpha)
    metadata = Metadata(icc=display_p3(), exif=exif(), xmp=b"<x:xmpmeta/>", dpi=(300.0, 200.0))
    whole_notes = write(tmp_path / f"whole.{suffix}", given, metadata=metadata)
    with ImageSink(tmp_path / f"strips.{suffix}", format=EXTENSIONS[suffix], metadata=metadata) as sink:
        for top, stop in pairwise([0, 1, 8, 9, 30, given.height]):
            cover = None if given.alpha is None else given.alpha[top:stop]
            sink.write(Frame(given.color[top:stop], cover), height=given.height)
    (whole,), of_whole, _ = read(tmp_path / f"whole.{suffix}")
    (found,), of_found, _ = read(tmp_path / f"strips.{suffix}")
    assert sink.notes == whole_notes
    assert of_found == of_whole
    assert probe(tmp_path / f"strips.{suffix}").height == given.height
    assert np.array_equal(found.color, whole.color)
    assert (found.alpha is None) == (whole.alpha is None)
    assert found.alpha is None or np.array_equal(found.alpha, whole.alpha)
    if suffix in LOSSLESS and not (alpha and suffix == "bmp"):
        assert np.array_equal(found.color, to_depth(given.color, depth if suffix in DEEP else 8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_picture_with_rows_missing_gets_no_name(tmp_path: Path, suffix: str) -> None:
    sink = ImageSink(tmp_path / f"a.{suffix}", format=EXTENSIONS[suffix], metadata=Metadata())
    with pytest.raises(OutputError, match="10 of its rows are missing"), sink:
        sink.write(frame(), height=55)
    assert list(tmp_path.iterdir()) == []


def test_16_to_8_bits_rounds_exactly_and_back_is_exact() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_depth(every, 8), np.floor(every / 257 + 0.5))
    small = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_depth(to_depth(small, 16), 8), small)


def test_on_white_rounds_exactly() -> None:
    color = np.array([[[0], [65535], [1000], [65535]]], np.uint16)
    alpha = np.array([[0, 0, 32768, 65535]], np.uint16)
    half = round((1000 * 32768 + 65535 * 32767) / 65535)
    assert on_white(color, alpha)[0, :, 0].tolist() == [65535, 65535, half, 65535]


def test_depth_can_be_asked_for(tmp_path: Path) -> None:
    assert write(tmp_path / "a.png", frame(depth=16), depth="8") == []
    (found,), _, _ = read(tmp_path / "a.png")
    assert np.array_equal(found.color, to_depth(photo(depth=16), 8))
    assert write(tmp_path / "a.tif", frame(), depth="16") == []
    (found,), _, _ = read(tmp_path / "a.tif")
    assert np.array_equal(found.color, photo().astype(np.uint16) * 257)
    assert "reduced" in write(tmp_path / "a.jpg", frame(), depth="16")[0]


def test_quality(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.webp", "a.avif"):
        sizes = []
        for quality in (20, None, 100):
            write(tmp_path / name, frame(), quality=quality)
            sizes.append((tmp_path / name).stat().st_size)
        assert sizes == sorted(sizes)
    write(tmp_path / "a.webp", frame(alpha=True), quality=100)
    (found,), _, _ = read(tmp_path / "a.webp")
    assert np.array_equal(found.color, photo())
    write(tmp_path / "a.jpg", frame())
    with Image.open(tmp_path / "a.jpg") as image:
        assert {each[1:3] for each in image.layer} == {(1, 1)}  # type: ignore[attr-defined]  # 4:4:4


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_animations_keep_frames_times_loop_and_alpha(tmp_path: Path, suffix: str, alpha: bool) -> None:
    clear = ramp()
    names = ("courtyard", "otters", "tea-hills")
    given = [
        Frame(photo(name=name), np.roll(clear, 20 * at, 1) if alpha else None, seconds)
        for at, (name, seconds) in enumerate(zip(names, (0.04, 0.1, 0.25), strict=True))
    ]
    assert can_hold(EXTENSIONS[suffix], animated=True, alpha=alpha, pages=3) is None
    write(tmp_path / f"a.{suffix}", *given, metadata=Metadata(loop=0), pages=3)
    found, metadata, _ = read(tmp_path / f"a.{suffix}")
    assert [round(each.seconds or 0, 3) for each in found] == [0.04, 0.1, 0.25]
    assert suffix == "avif" or metadata.loop == 0
    for each, want in zip(found, given, strict=True):
        assert (each.alpha is not None) == alpha
        shown = np.ones(clear.shape, bool)
        if each.alpha is not None and want.alpha is not None:
            wanted = np.where(want.alpha < 128, 0, 255).astype(np.uint8) if suffix == "gif" else want.alpha
            assert psnr(each.alpha, wanted) > 40
            shown = wanted > 200
        assert psnr(each.color[shown], want.color[shown]) > LEAST_PSNR[suffix] - 2


@pytest.mark.parametrize(("loop", "webp"), [(None, 1), (0, 0), (3, 3)])
def test_how_often_an_animation_plays(tmp_path: Path, loop: int | None, webp: int) -> None:
    frames = [frame(seconds=0.1), Frame(photo(name="otters"), None, 0.1)]
    write(tmp_path / "a.gif", *frames, metadata=Metadata(loop=loop))
    _, found, _ = read(tmp_path / "a.gif")
    assert found.loop == loop
    write(tmp_path / "a.webp", *frames, metadata=found)
    assert read(tmp_path / "a.webp")[1].loop == webp


def test_pages_of_several_sizes_and_kinds(tmp_path: Path) -> None:
    pages = [frame(depth=16), Frame(photo(20, 31, channels=1)), Frame(photo(33, 21, name="otters"), ramp(33, 21))]
    write(tmp_path / "a.tif", *pages, pages=3)
    found, _, _ = read(tmp_path / "a.tif")
    for each, want in zip(found, pages, strict=True):
        assert np.array_equal(each.color, want.color)
        assert (each.alpha is None) == (want.alpha is None)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("endian", ["<", ">"])
def test_bigtiff_where_4_gb_may_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endian: str) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", 1000)
    metadata = Metadata(exif=exif(endian=endian), icc=display_p3())
    write(tmp_path / "a.tif", frame(depth=16), frame(), metadata=metadata)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert len(file.pages) == 2
        tags = {tag.name: tag.value for tag in file.pages[0].tags}  # type: ignore[union-attr]
        assert tags["ExifTag"]["LensModel"] == "RF 24-70"
    found, metadata, _ = read(tmp_path / "a.tif")
    assert np.array_equal(found[0].color, photo(depth=16))
    assert np.array_equal(found[1].color, photo())
    assert metadata.icc == display_p3()
    assert metadata.exif is not None


@pytest.mark.parametrize(
    ("format", "what", "says"),
    [
        ("JPEG", {"animated": True}, "animation"),
        ("TIFF", {"animated": True}, "animation"),
        ("WEBP", {"pages": 2}, "one page"),
        ("PNG", {"pages": 2}, "one page"),
        ("WEBP", {"depth": 16}, "8 bits"),
        ("BMP", {"alpha": True}, "transparency"),
        ("PNG", {"depth": 16, "alpha": True}, None),
        ("TIFF", {"pages": 9, "depth": 16}, None),
        ("GIF", {"animated": True, "alpha": True, "pages": 3}, None),
    ],
)
def test_what_a_format_can_hold(format: str, what: dict, says: str | None) -> None:
    reason = can_hold(format, **what)
    assert (reason is None) == (says is None)
    assert says is None or (reason is not None and says in reason and "choose" in reason)


def test_several_pictures_into_a_format_for_one_are_refused(tmp_path: Path) -> None:
    for name, seconds in (("a.jpg", 0.1), ("a.webp", None)):
        with pytest.raises(OutputError, match="choose"):
            write(tmp_path / name, frame(seconds=seconds), frame(seconds=seconds))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_sizes_beyond_a_format_are_told_with_the_way_out(tmp_path: Path, format: str) -> None:
    assert size_fault(format, 16383, 16383) is None
    path = tmp_path / f"a.{format.lower()}"
    with pytest.raises(OutputError, match=r"a\.\w+: 1 x 65537 is too large: .*Choose png or tiff"):
        write(path, Frame(np.zeros((65537, 1, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a.png", Frame(np.zeros((65537, 1, 3), np.uint8)))
    assert probe(tmp_path / "a.png").height == 65537


def test_a_target_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, says in ((tmp_path / "none" / "a.png", "No such file"), (tmp_path / "file" / "a.png", "Not a directory")):
        with pytest.raises(OutputError, match=says):
            write(path, frame())
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match=r"a\.png cannot be written"):
        write(tmp_path / "a.png", frame())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "bmp", "gif"])
def test_an_exception_or_an_interrupt_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"what stood here before")

    def stopped(error: type[BaseException]) -> None:
        with ImageSink(path, format=EXTENSIONS[suffix], metadata=Metadata()) as sink:
            sink.write(frame())
            assert len(list(tmp_path.iterdir())) == 2
            raise error

    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error):
            stopped(error)
    with pytest.raises(OutputError, match="no picture"), ImageSink(path, format="PNG", metadata=Metadata()):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"what stood here before"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
def test_a_full_disk_leaves_nothing_and_says_why(tmp_path: Path, suffix: str) -> None:
    """In a program of its own that may write no file above 4 KB."""
    code = (
        "import sys\nimport numpy as np\nfrom pathlib import Path\nfrom upscale_cli.errors import OutputError\n"
        "from upscale_cli.media.encode import ImageSink\nfrom upscale_cli.media.frame import Frame\n"
        "from upscale_cli.media.metadata import Metadata\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)\n"
        "try:\n with ImageSink(Path(sys.argv[1]), format=sys.argv[2], metadata=Metadata()) as sink:\n"
        "  sink.write(Frame(pixels))\n"
        "except OutputError as error:\n print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"a.{suffix}"), EXTENSIONS[suffix]],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert f"a.{suffix} cannot be written: File too large." in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_complete_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    write(tmp_path / "a.png", frame())
    assert order == ["fsync", "replace"]
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left"):
        write(tmp_path / "b.png", frame())
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_exclusive_never_replaces_a_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame(), exclusive=True)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OutputError, match=r"a\.png exists\. Use --overwrite"):
        write(tmp_path / "a.png", frame(depth=16), exclusive=True)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_file_gets_the_users_own_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.png", frame())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["ü" * 120 + ".png", "x" * 251 + ".png", "-dash \n tab\t😀.png"])
def test_long_and_strange_names(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, frame())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in EXTENSIONS:
        for name in ("a", "b"):
            write(tmp_path / f"{name}.{suffix}", frame(alpha=True))
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_sinks_in_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for suffix in ("jpg", "png", "tif"):
            write(tmp_path / f"{number}.{suffix}", frame(depth=16))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(tmp_path / f"{number}.tif").read_bytes() for number in range(4)}) == 1
    assert len(list(tmp_path.iterdir())) == 12


def test_frames_that_are_none() -> None:
    with pytest.raises(ValueError, match="color"):
        Frame(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="alpha"):
        Frame(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16))
