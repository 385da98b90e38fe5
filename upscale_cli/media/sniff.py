"""Files that are no picture we read, known by their first bytes, so that a message can name them. Decodes nothing."""

from pathlib import Path

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_LATER = "is {}, which is not supported yet. Convert it to TIFF or JPEG first."
_NEVER = "is {}, not a photograph. Convert it to PNG first."
_STARTS = (
    (b"\xff\x0a", "a JPEG XL picture", _LATER),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", _LATER),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", _LATER),
    (b"#?RADIANCE", "a Radiance HDR picture", _LATER),
    (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 picture", _LATER),
    (b"8BPS", "a Photoshop document", _LATER),
    (b"FUJIFILMCCD-RAW", "a RAW photograph (RAF)", _LATER),
    (b"IIRO", "a RAW photograph (ORF)", _LATER),
    (b"IIU\0", "a RAW photograph (RW2)", _LATER),
    (b"%!PS", "a PostScript document", _NEVER),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document", _NEVER),
    (b"%PDF", "a PDF document", _NEVER),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile", _NEVER),
    (b"\x01\0\0\0\x6c\0\0\0", "a Windows metafile", _NEVER),
)
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# RAW files that look like TIFF inside: decoding them as such would give the thumbnail
_RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}


def refusal(head: bytes, suffix: str) -> str | None:
    """Why a file that begins with these bytes is refused, or None where a decoder may try."""
    if not head:
        return "is empty (0 bytes)."
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 256), 4))}
        if not brands & {b"avif", b"avis"}:
            if brands & {b"crx "}:
                return _LATER.format("a RAW photograph (CR3)")
            if brands & _BRANDS:
                return _LATER.format("a HEIC picture")
            return "is a video file, not a picture."
    for start, what, message in _STARTS:
        if head.startswith(start):
            return message.format(what)
    if suffix.lower() in _RAW_SUFFIXES:
        return _LATER.format(f"a RAW photograph ({suffix[1:].upper()})")
    if b"<svg" in head[:1024]:
        return _NEVER.format("an SVG drawing")
    return None


def avif_depth(path: Path) -> int:
    """8, 10 or 12 bits, from the AV1 configuration box (AV1-ISOBMFF 2.3.3); 8 where none is found."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    at = head.find(b"av1C")
    if at < 0 or at + 7 > len(head):
        return 8
    flags = head[at + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
