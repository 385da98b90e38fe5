"""What a picture that Pillow has opened carries, as the file has it. Decides nothing: `image.py` looks for faults."""

from pathlib import Path

from PIL import Image

from upscale_cli.media import exif as ifd
from upscale_cli.media import png
from upscale_cli.media.metadata import Metadata


def metadata(image: Image.Image, path: Path, *, animated: bool) -> Metadata:
    """All of it."""
    info = image.info
    dpi = info.get("dpi")
    text = [(key, str(value)) for key, value in getattr(image, "text", {}).items() if _is_text(key)]
    if comment := info.get("comment"):
        text.append(("Comment", comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)))
    photoshop = info.get("photoshop")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif(image, path),
        xmp=xmp(image) or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(value > 0 for value in dpi) else None,
        loop=info.get("loop") if animated else None,
        iptc=photoshop.get(0x0404) if isinstance(photoshop, dict) else None,
        text=tuple(text),
    )


def exif(image: Image.Image, path: Path) -> bytes | None:
    """The EXIF block, wherever the format has put it."""
    if image.format == "PNG":  # it may stand behind the pixels, where Pillow has not looked yet
        with path.open("rb") as file:
            found = [data for kind, data in png.chunks(file, skip=frozenset({b"IDAT", b"fdAT"})) if kind == b"eXIf"]
        if found:
            return ifd.bare(found[0])
        if old := image.info.get("Raw profile type exif"):  # ImageMagick's hexadecimal text
            try:
                return ifd.bare(bytes.fromhex("".join(str(old).split("\n")[3:])))
            except ValueError:
                return b""  # no block, which is noted where the metadata are checked
    block = image.info.get("exif")
    return ifd.bare(block) if block else None


def xmp(image: Image.Image) -> bytes | None:
    found = image.info.get("xmp")
    return found.encode() if isinstance(found, str) else found


def _is_text(key: str) -> bool:
    """Text a person wrote; not the containers of other metadata."""
    return key != "XML:com.adobe.xmp" and not key.startswith("Raw profile type")
