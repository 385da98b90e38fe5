"""Formats by their endings, and what each of a picture can hold: depth, alpha, frames, pages, sizes, metadata."""

EXTENSIONS = {
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "png": "PNG",
    "tif": "TIFF",
    "tiff": "TIFF",
    "webp": "WEBP",
    "avif": "AVIF",
    "bmp": "BMP",
    "gif": "GIF",
}
CONTAINERS = {"mp4": "MP4", "m4v": "MP4", "mov": "MOV", "mkv": "MATROSKA", "webm": "WEBM"}
"""Of videos, by their endings; others are read and not written."""
RAW = "RAW"
"""Camera files of any maker."""
BECOMES = {RAW: "TIFF", "HEIF": "JPEG"}
"""What is read and not written, and the format of its output where none is asked for."""
DEEP = {"PNG", "TIFF"}
OPAQUE = {"JPEG", "BMP"}
ANIMATED = {"PNG", "WEBP", "AVIF", "GIF"}
STREAMED = ("PNG", "TIFF")
"""Formats whose pictures are written strip by strip."""
_MOST_PX = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536, "GIF": 65535}
HELD = {  # fields of Metadata each format has a place for
    "JPEG": {"icc", "exif", "xmp", "dpi", "iptc", "comment"},
    "PNG": {"icc", "cicp", "exif", "xmp", "dpi", "text", "comment", "loop"},
    "TIFF": {"icc", "exif", "xmp", "dpi", "iptc"},
    "WEBP": {"icc", "exif", "xmp", "loop"},
    "AVIF": {"icc", "exif", "xmp"},
    "BMP": {"dpi"},
    "GIF": {"comment", "loop"},
}


def can_hold(format: str, *, depth: int = 8, alpha: bool = False, animated: bool = False, pages: int = 1) -> str | None:
    """Why the format cannot hold such a picture whole, in words, or None.

    Several pictures are told first: a sink refuses them. 16 bits and alpha it reduces with a note.
    """
    if animated and format not in ANIMATED:
        return f"{format} holds no animation; choose webp, png, gif or avif"
    if pages > 1 and not animated and format != "TIFF":
        return f"{format} holds one page; choose tiff"
    if depth > 8 and format not in DEEP:
        return f"{format} holds 8 bits; choose png or tiff"
    if alpha and format in OPAQUE:
        return f"{format} holds no transparency; choose png, webp or tiff"
    return None


def size_fault(format: str, width: int, height: int) -> str | None:
    """Why the format cannot hold a picture of this size, in words, or None."""
    most = _MOST_PX.get(format)
    if most is not None and max(width, height) > most:
        return f"{width} x {height} is too large: {format} holds at most {most} pixels a side. Choose png or tiff."
    if format == "BMP" and width * height * 3 > 4_000_000_000:
        return f"{width} x {height} is too large: BMP ends at 4 GB. Choose png or tiff."
    return None
