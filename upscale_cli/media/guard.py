"""The guard over the reading of one file: Pillow quiet and within our limits, and every fault one InputError.

Owns Pillow's settings for the whole process, which errors damaged files raise, the pixel limit and the words of all
these. Opens and decodes nothing.
"""

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from upscale_cli.errors import InputError
from upscale_cli.media import png
from upscale_cli.media.paths import shown

_KNOWN = "JPEG, PNG, TIFF, WebP, AVIF, HEIC, BMP, GIF"
_ELSEWHERE = "Get the file again, or save it as PNG in another program."

# Four of Pillow's settings hold for the whole process (pixel limit, truncation, text size, warnings); one reader at a
# time may change them.
_PILLOW = threading.RLock()
# What damaged files make Pillow, tifffile (a ValueError of its own), zlib and OpenCV raise.
_DECODE_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    SyntaxError,
    EOFError,
    zlib.error,
    cv2.error,
)
# The same, but their texts help nobody.
_STRUCTURE_ERRORS = (LookupError, TypeError, ArithmeticError, AttributeError, AssertionError, struct.error)


class Guard:
    """Over one file: `reading()` around whatever decodes it, `fault(reason)` for what is wrong with it.

    Set `salvaging` where truncated files are to give what is there.
    """

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        self.salvaging = False
        self._path = path
        self._max_pixels = max_pixels

    def fault(self, reason: str) -> InputError:
        return InputError(f"{shown(self._path)}: {reason}")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Pillow quiet, with our limits, and its errors in our words: raises InputError and nothing else."""
        with _PILLOW, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK
            # Pillow raises above twice its limit; the exact check is ours
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._max_pixels, self.salvaging
            PngImagePlugin.MAX_TEXT_CHUNK = png.MOST_CHUNK_BYTES
            try:
                yield
            except InputError:
                raise
            except Image.DecompressionBombError as error:
                pixels = re.search(r"\d+", str(error))  # Pillow knows the size before we do
                raise self._too_many(f"{int(pixels[0]):,}" if pixels else "too many") from error
            except UnidentifiedImageError as error:
                raise self.fault(f"is not a picture of a known kind ({_KNOWN}), or is damaged.") from error
            except MemoryError as error:
                raise self.fault("needs more memory than there is.") from error
            except _STRUCTURE_ERRORS as error:
                raise self.fault(f"cannot be decoded: its structure is damaged. {_ELSEWHERE}") from error
            except _DECODE_ERRORS as error:
                raise self.fault(self._reason(error)) from error
            except Exception as error:  # what nobody foresaw must neither end a night's work nor pass for a mistake
                unexpected = f"cannot be decoded: unexpected {type(error).__name__} ({error})."
                raise self.fault(f"{unexpected} Please report it with this file.") from error
            finally:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK = before

    def check_pixels(self, width: int, height: int, frames: int = 1) -> None:
        """Raises InputError for a header without pixels, or with more than the limit."""
        if width < 1 or height < 1:
            raise self.fault(f"is not a picture: its header says {width} x {height} pixels.")
        pixels = width * height * frames  # those of an animation are in memory together
        if pixels > self._max_pixels:
            each = f"{frames:,} x " if frames > 1 else ""
            raise self._too_many(f"{each}{width} x {height} = {pixels:,}")

    def _too_many(self, pixels: str) -> InputError:
        return self.fault(
            f"has {pixels} pixels, more than the limit of {self._max_pixels:,}. "
            "Raise it with --max-pixels if you trust the file."
        )

    def _reason(self, error: Exception) -> str:
        text = str(error).strip().rstrip(".") or type(error).__name__
        if "truncated" not in text.lower() and not isinstance(error, EOFError):
            return f"cannot be decoded: {text}." + (f" {_ELSEWHERE}" if ";" not in text else "")
        if self.salvaging:
            return f"is truncated, and nothing could be salvaged ({text})."
        return f"is truncated ({text}). Get the whole file, or salvage what is there with --allow-truncated."
