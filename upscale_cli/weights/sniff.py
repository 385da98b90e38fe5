"""What a weights file is, by its content and never by its name alone.

Owns the first bytes of every format that is read, and the names of those that are not (web pages, pointers, pictures),
so that an error tells the true cause. Reads half a kilobyte; parses nothing.
"""

from pathlib import Path
from typing import Literal

from upscale_cli.errors import WeightsError

Format = Literal["safetensors", "archive", "pickle", "ncnn graph", "ncnn weights"]

DESCRIPTIONS: dict[Format, str] = {
    "safetensors": "a safetensors file",
    "archive": "a PyTorch .pth archive (zip)",
    "pickle": "a Python pickle (.pth or .pt)",
    "ncnn graph": "an ncnn .param file",
    "ncnn weights": "an ncnn .bin file",
}

_READ: tuple[tuple[bytes, Format], ...] = (
    (b"PK\x03\x04", "archive"),
    (b"7767517\n", "ncnn graph"),
    (b"7767517\r\n", "ncnn graph"),
    (b"\x47\x6b\x30\x01", "ncnn weights"),  # the tag of a first layer held in float16
)
_NOT_READ = (
    (b"version https://git-lfs.github.com/spec/", "a git-LFS pointer: the text that stands for a file not downloaded"),
    (b"\xdd\x85\x76\x00", "a binary ncnn graph (.param.bin), where the text .param is needed"),
    (b"\x1f\x8b", "a gzip archive, which must be unpacked first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, which must be unpacked first"),
    (b"Rar!", "a RAR archive, which must be unpacked first"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
)


def sniff(path: Path) -> Format:
    """The format of the file. Raises WeightsError, saying what it is, for one that is absent, empty or not read."""
    try:
        if not path.is_file():
            if path.exists():
                raise WeightsError(f"{path} is not a file. Name a weights file.")
            raise WeightsError(f"{path} cannot be read: No such file or directory. Check the path.")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    if not head:
        raise WeightsError(f"{path} is empty: a copy or download stopped before it began. Get the file again.")
    known = _known(head, path)
    if known is not None:
        return known
    raise WeightsError(
        f"{path} is {_other(head) or 'no weights file that is known, or its first bytes are damaged'}. "
        "Get the file again: safetensors, .pth, or ncnn .param and .bin are read."
    )


def _known(head: bytes, path: Path) -> Format | None:
    if head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    by_magic: Format | None = next((known for magic, known in _READ if head.startswith(magic)), None)
    # Neither the tag of float32 layers, zero, nor numbers that no layer's tag precedes tell what they are.
    if by_magic is None and path.suffix == ".bin" and (head[:4] == bytes(4) or path.with_suffix(".param").is_file()):
        return "ncnn weights"
    return by_magic


def _other(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--", b"<?xml")):
        return "a web page (a download saved an error or log-in page)"
    return next((meaning for magic, meaning in _NOT_READ if head.startswith(magic)), None)
