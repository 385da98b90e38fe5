"""Colours of PNG by gAMA, cHRM, sRGB and cICP: what they mean reaches every output, and the styles."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import chunk, display_p3, grey_profile, photo, png, read, write
from PIL import Image, ImageCms
from styled import write_style
from typer.testing import CliRunner, Result

from upscale_cli.cli.app import app
from upscale_cli.media.colorspace import AS_SRGB, Assumed, meaning, space_of, srgb8
from upscale_cli.media.frame import Frame
from upscale_cli.media.icc import profile_name
from upscale_cli.media.metadata import Metadata, icc_fault, icc_space, srgb_profile

Curve = Callable[[np.ndarray], np.ndarray]
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green and blue
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
BT2020 = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

PQ, HLG = bytes((9, 16, 0, 1)), bytes((9, 18, 0, 1))
LINEAR = chunk(b"gAMA", struct.pack(">I", 100000))


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chrm(primaries: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in primaries)))


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))


def power(gamma: float) -> Curve:
    return lambda numbers: numbers**gamma


def srgb_light(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers > 0.04045, ((numbers + 0.055) / 1.055) ** 2.4, numbers / 12.92)


def bt709_light(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers >= 0.081, ((numbers + 0.099) / 1.099) ** (1 / 0.45), numbers / 4.5)


def to_xyz(primaries: tuple[float, ...]) -> np.ndarray:
    """Columns red, green and blue, of white with Y = 1 (SMPTE RP 177)."""
    white, *colors = (np.array([x, y, 1 - x - y]) / y for x, y in zip(primaries[::2], primaries[1::2], strict=True))
    columns = np.stack(colors, 1)
    return columns * np.linalg.solve(columns, white)


def as_srgb(image: np.ndarray, primaries: tuple[float, ...], light: Curve) -> np.ndarray:
    """What the numbers look like, as sRGB's values from 0 to 255, by the formulas."""
    source, target = to_xyz(primaries), to_xyz(SRGB)
    gain = (BRADFORD @ target.sum(1)) / (BRADFORD @ source.sum(1))
    adapted = np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD
    numbers = np.broadcast_to(image, (*image.shape[:2], 3)) / np.iinfo(image.dtype).max
    linear = light(numbers) @ (np.linalg.inv(target) @ adapted @ source).T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def by_littlecms(image: np.ndarray, icc: bytes) -> np.ndarray:
    source, target = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (icc, srgb_profile()))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(image), source, target, outputMode="RGB")).astype(int)


def picture(path: Path, before: bytes, *, image: np.ndarray | None = None, kind: int = 2, after: bytes = b"") -> Path:
    """A PNG of a photograph with these chunks before its pixels."""
    pixels = photo() if image is None else image
    path.write_bytes(png(pixels, kind, depth=8 * pixels.itemsize, before=before, after=after))
    return path


def chunks_of(path: Path) -> dict[bytes, bytes]:
    data, at, found = path.read_bytes(), 8, {}
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


MEANINGS = {
    "PNG gamma 1, sRGB primaries": (LINEAR, SRGB, power(1.0)),
    "PNG gamma 2.2, primaries 0.64 0.33 0.21 0.71 0.15 0.06": (gama(45455) + chrm(ADOBE), ADOBE, power(2.2)),
    "PNG gamma 1.8, primaries 0.7347 0.2653 0.1596 0.8404 0.0366": (gama(55556) + chrm(PROPHOTO), PROPHOTO, power(1.8)),
    "sRGB curve, primaries 0.68 0.32 0.265 0.69 0.15 0.06": (chrm(P3), P3, srgb_light),
    "PNG gamma 1.2, sRGB primaries": (gama(83333) + chrm(SRGB), SRGB, power(1.2)),
    "Display P3, sRGB curve": (cicp(12, 13, 0, 1), P3, srgb_light),
    "BT.2020, BT.709 curve": (cicp(9, 14, 0, 1), BT2020, bt709_light),
    "BT.709, BT.709 curve": (cicp(1, 1, 0, 1), SRGB, bt709_light),
    "BT.709, linear": (cicp(1, 8, 0, 1), SRGB, power(1.0)),
    "BT.709, gamma 2.2": (cicp(1, 4, 0, 1), SRGB, power(2.2)),
    "BT.709, gamma 2.8": (cicp(1, 5, 0, 1), SRGB, power(2.8)),
}


@pytest.mark.parametrize("name", MEANINGS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_outputs_have_the_colours_that_the_chunks_name(tmp_path: Path, name: str, suffix: str) -> None:
    before, primaries, light = MEANINGS[name]
    (found,), metadata, notes = read(picture(tmp_path / "a.png", before))
    assert notes == []
    assert write(tmp_path / f"b.{suffix}", found, metadata=metadata) == []
    _, carried, _ = read(tmp_path / f"b.{suffix}")
    assert carried.icc is not None
    assert profile_name(carried.icc).startswith(name)
    expected = as_srgb(photo(), primaries, light)
    off = np.abs(by_littlecms(photo(), carried.icc) - expected)
    assert (off.max() <= 3, off.mean() < 0.5) == (True, True)  # LittleCMS's 8 bits are steep in the darkest
    assert np.abs(srgb8(found.color, carried.icc) - expected).max() < 0.6, "ours are not"


def test_what_a_browser_is_tested_by(tmp_path: Path) -> None:
    """Numbers of the web platform tests for cICP (png/cicp-chunk.html)."""
    image = np.full((4, 4, 3), (51, 102, 153), np.uint8)
    (found,), metadata, _ = read(picture(tmp_path / "a.png", cicp(12, 13, 0, 1), image=image))
    assert srgb8(found.color, metadata.icc)[0, 0].tolist() == [27, 104, 157]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        chunk(b"sRGB", b"\0"),
        gama(45455),
        gama(45500),
        gama(45455) + chrm(SRGB),
        chrm(SRGB),
        chrm(tuple(value + 0.0009 for value in SRGB)),
        cicp(1, 13, 0, 1),
    ],
)
def test_what_is_srgb_needs_no_profile(tmp_path: Path, before: bytes) -> None:
    _, metadata, notes = read(picture(tmp_path / "a.png", before))
    assert (metadata, notes) == (Metadata(), [])


def test_the_chunk_of_the_highest_rank_is_believed(tmp_path: Path) -> None:
    lowest = gama(100000) + chrm(ADOBE)
    ranks = [cicp(12, 13, 0, 1), iccp(display_p3()), chunk(b"sRGB", b"\0"), lowest]

    def read_icc(*chunks: bytes) -> bytes | None:
        return read(picture(tmp_path / "a.png", b"".join(chunks)))[1].icc

    assert read_icc(*ranks) == read_icc(*reversed(ranks)) == read_icc(ranks[0])
    assert read_icc(*ranks[1:]) == display_p3()
    assert read_icc(*ranks[2:]) is None
    assert read_icc(lowest) is not None
    assert read_icc(cicp(1, 13, 0, 1), *ranks[1:]) is None
    assert read_icc(iccp(b"rubbish" * 40), lowest) == read_icc(lowest), "a profile nobody can use says nothing"


def test_only_what_stands_before_the_pixels_counts(tmp_path: Path) -> None:
    assert read(picture(tmp_path / "a.png", b"", after=LINEAR + cicp(12, 13, 0, 1)))[1] == Metadata()
    first = read(picture(tmp_path / "a.png", LINEAR))[1]
    assert read(picture(tmp_path / "a.png", LINEAR + gama(55556)))[1] == first, "the first of two"
    assert first.icc is not None


@pytest.mark.parametrize(
    ("before", "note"),
    [
        (chunk(b"gAMA", b"\0\0\1"), "its gAMA chunk is damaged: left out"),
        (chunk(b"gAMA", bytes(8)), "its gAMA chunk is damaged: left out"),
        (gama(0), "its gAMA chunk is damaged: left out"),
        (gama(5), "its gAMA chunk is damaged: left out"),
        (gama(4_000_000_000), "its gAMA chunk is damaged: left out"),
        (LINEAR[:-1] + b"?", "its gAMA chunk does not match its checksum: left out"),
        (chunk(b"cHRM", bytes(31)), "its cHRM chunk is damaged: left out"),
        (chunk(b"cHRM", bytes(32)), "its cHRM chunk is damaged: left out"),
        (chrm((0.3127, 0.0, *ADOBE[2:])), "its cHRM chunk is damaged: left out"),
        (chrm((*ADOBE[:6], 0.15, 0.0)), "its cHRM chunk is damaged: left out"),
        (chrm((0.3127, 0.329, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4)), "its cHRM chunk is damaged: left out"),  # on a line
        (chrm((0.7, 0.2, *ADOBE[2:])), "its cHRM chunk is damaged: left out"),  # white beyond the colours
        (chrm((*ADOBE[:6], 0.6, 0.6)), "its cHRM chunk is damaged: left out"),
        (chunk(b"cHRM", b"\xff" * 32), "its cHRM chunk is damaged: left out"),
        (chunk(b"sRGB", b""), "its sRGB chunk is damaged: left out"),
        (cicp(12, 13, 0), "its cICP chunk is damaged: left out"),
        (cicp(12, 13, 1, 1), "its cICP chunk is damaged: left out"),
        (cicp(12, 13, 0, 2), "its cICP chunk is damaged: left out"),
    ],
)
def test_damaged_chunks_are_left_out_with_a_note(tmp_path: Path, before: bytes, note: str) -> None:
    (found,), metadata, notes = read(picture(tmp_path / "a.png", before))
    assert (metadata, notes) == (Metadata(), [note])
    assert np.array_equal(found.color, photo())
    if b"cHRM" in before:  # the rest is believed
        assert read(picture(tmp_path / "a.png", before + LINEAR))[1].icc is not None


def test_whatever_a_chunk_says_there_is_a_usable_profile_or_none(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for _ in range(60):
        primaries = tuple((np.array(ADOBE) + draw.normal(0, 0.1, 8)).clip(0, 1))
        _, metadata, notes = read(picture(tmp_path / "a.png", chrm(primaries) + gama(int(draw.integers(1 << 21)))))
        if metadata.icc is None:
            assert notes
        else:
            assert icc_fault(metadata.icc) is None
            space_of(metadata.icc)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_and_colour_of_any_depth_with_and_without_alpha(
    tmp_path: Path, kind: int, channels: int, depth: int
) -> None:
    image = photo(channels=1 if channels < 3 else 3, depth=depth)
    opaque = np.full_like(image[..., :1], np.iinfo(image.dtype).max)
    stored = image if channels in (1, 3) else np.concatenate([image, opaque], 2)
    path = picture(tmp_path / "a.png", gama(55556) + chrm(ADOBE), image=stored, kind=kind)
    (found,), metadata, notes = read(path)
    assert (notes, found.depth) == ([], depth)
    assert write(tmp_path / "b.png", found, metadata=metadata) == []
    (again,), carried, _ = read(tmp_path / "b.png")
    assert np.array_equal(again.color, image)
    assert (carried.icc, icc_fault(carried.icc or b"")) == (metadata.icc, None)
    assert icc_space(carried.icc or b"") == ("GRAY" if channels < 3 else "RGB")
    expected = as_srgb(image, SRGB if channels < 3 else ADOBE, power(1.8))
    assert np.abs(srgb8(image, carried.icc) - expected[..., : image.shape[2]]).max() < 0.6
    if (kind, depth) == (0, 8):
        assert np.abs(by_littlecms(image[..., 0], carried.icc or b"") - expected).max() <= 3


def test_a_palette_and_an_animation(tmp_path: Path) -> None:
    palette = Image.fromarray(photo()).quantize(16)
    still = Image.fromarray(photo())
    palette.save(tmp_path / "p.png")
    still.save(tmp_path / "a.png", save_all=True, append_images=[still.rotate(180)], duration=50)
    expected = read(picture(tmp_path / "x.png", LINEAR))[1].icc
    for name, frames in (("p.png", 1), ("a.png", 2)):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:33] + LINEAR + data[33:])
        found, metadata, notes = read(tmp_path / name)
        assert (metadata.icc, notes, len(found), found[0].channels) == (expected, [], frames, 3)
        write(tmp_path / f"again_{name}", *found, metadata=metadata)
        assert read(tmp_path / f"again_{name}")[1].icc == expected


@pytest.mark.parametrize("codes", [PQ, HLG, bytes((9, 16, 0, 0)), bytes((2, 2, 0, 1))])
def test_what_no_profile_holds_stays_a_chunk(tmp_path: Path, codes: bytes) -> None:
    (found,), metadata, notes = read(picture(tmp_path / "a.png", chunk(b"cICP", codes)))
    assert (metadata, notes) == (Metadata(cicp=codes), [])
    assert write(tmp_path / "b.png", found, metadata=metadata) == []
    assert chunks_of(tmp_path / "b.png")[b"cICP"] == codes
    write(tmp_path / "c.png", *(Frame(photo() // n, None, 0.1) for n in (1, 2)), metadata=metadata)
    assert b"acTL" in chunks_of(tmp_path / "c.png")
    assert chunks_of(tmp_path / "c.png")[b"cICP"] == codes
    assert write(tmp_path / "b.tif", found, metadata=metadata) == ["TIFF has no place for colours by cICP: dropped"]


def test_behind_it_the_next_in_rank_is_kept(tmp_path: Path) -> None:
    for before, icc in ((iccp(display_p3()), display_p3()), (LINEAR, read(picture(tmp_path / "x.png", LINEAR))[1].icc)):
        (found,), metadata, _ = read(picture(tmp_path / "a.png", chunk(b"cICP", PQ) + before))
        assert metadata == Metadata(icc=icc, cicp=PQ)
        write(tmp_path / "b.png", found, metadata=metadata)
        assert read(tmp_path / "b.png")[1] == metadata


def test_the_same_chunks_make_the_same_bytes(tmp_path: Path) -> None:
    made = [read(picture(tmp_path / f"{n}.png", LINEAR))[1].icc or b"" for n in range(2)]
    assert made[0] == made[1]
    assert struct.unpack_from(">6H", made[0], 24) == (2025, 6, 24, 0, 0, 0), "no hour of its own"


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result


def test_the_command_keeps_the_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = photo(32, 48)
    picture(Path("a.png"), gama(45455) + chrm(ADOBE), image=image)
    picture(Path("grey.png"), LINEAR, image=photo(32, 48, channels=1), kind=0)
    picture(Path("hdr.png"), chunk(b"cICP", PQ), image=photo(32, 48, depth=16))
    run("a.png", "grey.png", "hdr.png", "-o", "out", "-m", "bicubic", "-s", "2", "--strip-metadata")
    (made,), metadata, _ = read(Path("out/a_x2.png"))
    assert made.color.shape == (64, 96, 3)
    assert np.abs(by_littlecms(made.color, metadata.icc or b"") - as_srgb(made.color, ADOBE, power(2.2))).max() <= 3
    assert icc_space(read(Path("out/grey_x2.png"))[1].icc or b"") == "GRAY"
    assert chunks_of(Path("out/hdr_x2.png"))[b"cICP"] == PQ
    result = run("hdr.png", "-o", "out", "-m", "bicubic", "-f", "tiff", "--json")
    assert json.loads(result.stdout)["files"][0]["notes"] == ["TIFF has no place for colours by cICP: dropped"]


def test_a_style_is_shown_the_colours_that_the_chunks_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of linear light gets the look of the same picture as sRGB, which one without a chunk does not."""
    monkeypatch.chdir(tmp_path)
    image = photo(32, 48, depth=16)
    stored = np.rint(srgb_light(image / 65535) * 65535).astype(np.uint16)
    for name, before, pixels in (("srgb", b"", image), ("linear", LINEAR, stored), ("bare", b"", stored)):
        picture(Path(f"{name}.png"), before, image=pixels)
    write_style(Path("warm.safetensors"))
    run("enhance", "srgb.png", "linear.png", "bare.png", "-o", "out", "--style", "warm.safetensors")
    made = {name: read(Path(f"out/{name}_warm.png")) for name in ("srgb", "linear", "bare")}
    looks = {name: srgb8(frames[0].color, metadata.icc).astype(int) for name, (frames, metadata, _) in made.items()}
    assert np.abs(looks["linear"] - looks["srgb"]).max() <= 1
    bare, linear = (made[name][0][0].color[..., 2].mean() for name in ("bare", "linear"))
    assert bare > 1.3 * linear, "half of a value is more than half of the light"


def test_a_style_says_what_it_cannot_be_shown() -> None:
    def told(icc: bytes | None, codes: bytes, assumed: Assumed = AS_SRGB) -> str:
        return meaning(icc, cicp=codes, format="PNG", channels=3, depth=16, assumed=assumed).note

    said = "its cICP chunk (9 16 0 1, PQ) says what no profile holds: its colours are taken for"
    assert told(None, PQ) == f"{said} sRGB"
    assert told(None, PQ, Assumed("linear")) == f"{said} sRGB"
    assert told(display_p3(), PQ) == f"{said} those of its profile 'for tests'"
    assert told(None, bytes((2, 2, 0, 1))).startswith("its cICP chunk (2 2 0 1) says")


def test_grey_pictures_keep_the_profile_they_had(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", iccp(grey_profile()) + LINEAR, image=photo(channels=1), kind=0)
    (found,), metadata, _ = read(path)
    assert metadata.icc == grey_profile()
    assert isinstance(found, Frame)
