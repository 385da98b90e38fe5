"""Pictures in: what a file holds (`probe`) and its frames, upright, with nothing lost silently (`ImageSource`).

Pillow opens everything first, from an allow-list by content, with the pixel limit checked before any pixel is decoded,
and its `load()` is the test for truncation; 16-bit PNG pixels then come from OpenCV and deep TIFF pixels from tifffile,
because Pillow cuts them to 8 bits without a word. Refuses whatever is not on the list; never starts another program.
"""

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, TypeVar

import cv2
import numpy as np
from PIL import (  # those of FORMATS: Pillow, when it misses one, loads all of its forty
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from upscale_cli.errors import InputError
from upscale_cli.media import carried, heif, png, png_color, sniff
from upscale_cli.media import exif as ifd
from upscale_cli.media.frame import Frame
from upscale_cli.media.guard import Guard
from upscale_cli.media.metadata import Metadata, icc_fault, orientation
from upscale_cli.media.paths import RAW_SUFFIXES
from upscale_cli.media.pixels import GREY_MODES, Pixels, from_pillow, upright

if TYPE_CHECKING:
    import tifffile

T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF")
DEFAULT_MAX_PIXELS = 200_000_000


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header says. The size is that of the upright picture; channels 1 (grey) or 3, alpha not counted."""

    path: Path
    format: str
    width: int
    height: int
    frames: int
    depth: int
    channels: int
    alpha: bool
    animated: bool
    notes: tuple[str, ...] = ()
    lossless: bool = False
    """Of formats that can be either, WebP: a picture made of it is to be so too."""

    @property
    def counted(self) -> bool:
        """Whether `frames` is their number and no estimate."""
        return True


def probe(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, allow_truncated: bool = False) -> ImageInfo:
    """What the picture is, from its header alone. Raises InputError for what is no picture of an allowed kind."""
    with ImageSource(path, max_pixels=max_pixels, allow_truncated=allow_truncated) as source:
        return source.info


class ImageSource:
    """An open picture. Use as a context manager; `frames()` may be walked once or often.

    `info` is there at once; `metadata` and `notes` (one line for each thing dropped or converted) are complete after
    the frames were read. Raises InputError, on opening or reading, with the path, the reason and the way out.
    """

    def __init__(self, path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, allow_truncated: bool = False):
        self.path = path
        self.missing = ""
        self.notes: list[str] = []
        self._guard = Guard(path, max_pixels=max_pixels)
        self._allow_truncated = allow_truncated
        self._metadata: Metadata | None = None
        self._image: Image.Image | None = None
        self._tiff: tifffile.TiffFile | None = None
        self._pages: list[tifffile.TiffPage] = []
        self._head = self._first_bytes()
        try:
            self.info = self._attempt(self._opened)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._image is not None:
            self._image.close()
            self._image = None
        if self._tiff is not None:
            self._tiff.close()

    @property
    def metadata(self) -> Metadata:
        """As the file has it; a sink corrects orientation and sizes. Faulty parts are left out with a note."""
        if self._metadata is None:
            with self._guard.reading():
                self._metadata = self._checked(self._raw_metadata())
        return self._metadata

    def frames(self) -> Iterator[Frame]:
        """The frames, upright, RGB or grey, alpha straight. Those of an animation are whole canvases."""
        for index in range(self.info.frames):
            yield self._attempt(lambda index=index: self._decoded(index))

    def _opened(self) -> ImageInfo:
        with self._guard.reading():
            return self._open_tiff() if self._head[:4] in sniff.TIFF_MAGIC else self._open()

    def _decoded(self, index: int) -> Frame:
        with self._guard.reading():
            return self._tiff_frame(index) if self._pages else self._frame(index)

    def _attempt(self, step: Callable[[], T]) -> T:
        """Strictly first; where that fails and truncated files are allowed, from then on with what is there."""
        try:
            return step()
        except InputError:
            if self._guard.salvaging or not self._allow_truncated or sniff.is_heif(self._head):
                raise
        self._guard.salvaging = True
        self.close()
        self._opened()  # a decoder that has failed does not go on
        salvaged = step()
        self._note("not whole: what could be read of it was kept")
        return salvaged

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _first_bytes(self) -> bytes:
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116  a path that is no file must not be opened
                raise self._guard.fault("is not a file.")
            with self.path.open("rb") as file:
                head = file.read(4096)
        except OSError as error:
            raise self._guard.fault(f"cannot be read: {error.strerror}.") from error
        if reason := sniff.refusal(head, self.path.suffix):
            raise self._guard.fault(reason)
        if self.path.suffix.lower() in RAW_SUFFIXES:
            self._note("is no RAW photograph, whatever its name says: read as what it is")
        return head

    # --- everything but TIFF -------------------------------------------------------------------------------------

    def _open(self) -> ImageInfo:
        try:
            image = self._image = Image.open(self._sound(), formats=self._formats())
        except (OSError, SyntaxError):
            # These know better what is wrong.
            self._ask(png.verify if self._head.startswith(png.SIGNATURE) else sniff.check)
            raise
        name = "JPEG" if image.format == "MPO" else str(image.format)
        frames = 1 if name in ("JPEG", "BMP", heif.NAME) else getattr(image, "n_frames", 1)
        if image.format == "MPO":
            self._note("holds several pictures (MPO): the first is used")
        for note in heif.left_out(image) if name == heif.NAME else ():
            self._note(note)
        self._first = 0
        if name == "PNG" and image.info.get("default_image") and frames > 1:
            self._first, frames = 1, frames - 1
            self._note("the still picture for programs without animation is left out")
        self._png_depth = self._head[24] if name == "PNG" else 8
        self._heif_bits = heif.bits(image) if name == heif.NAME else 8
        deep = image.mode.startswith(("I", "F")) or (self._png_depth == 16 and frames == 1) or self._heif_bits > 8
        if self._png_depth == 16 and frames > 1:
            self._note("16-bit animation read at 8 bits")
            deep = False
        if name == "AVIF" and (bits := sniff.avif_depth(self.path)) > 8:
            self._note(f"{bits}-bit AVIF read at 8 bits")
        if name == "PNG" and frames == 1 and self._ask(png.frames_claimed) != 1:
            self._note("its animation is damaged: the still picture is used")
        self._guard.check_pixels(*image.size, frames)
        self._turn = self._orientation(image)
        width, height = image.size if self._turn < 5 else image.size[::-1]
        return ImageInfo(
            self.path,
            name,
            width,
            height,
            frames,
            16 if deep else 8,
            1 if image.mode in GREY_MODES or (self._png_depth == 16 and deep and self._head[25] in (0, 4)) else 3,
            image.has_transparency_data,
            frames > 1,
            tuple(self.notes),
            name == "WEBP" and self._ask(sniff.is_lossless_webp),
        )

    def _formats(self) -> tuple[str, ...]:
        if not sniff.is_heif(self._head):
            return FORMATS
        heif.register(self._guard)
        return (heif.NAME,)

    def _ask(self, question: Callable[[BinaryIO], T]) -> T:
        with self.path.open("rb") as file:
            return question(file)

    def _sound(self) -> Path | io.BytesIO:
        """What Pillow is to open: the file, less what makes it refuse a PNG whose pixels are sound."""
        if not self._head.startswith(png.SIGNATURE):
            return self.path
        less, notes = self._ask(png.sound)
        for note in notes:
            self._note(note)
        return self.path if less is None else io.BytesIO(less)

    def _orientation(self, image: Image.Image) -> int:
        try:
            return orientation(carried.exif(image, self.path), carried.xmp(image))
        except ValueError:
            return 1  # the damaged block is noted where the metadata are read

    def _raw_metadata(self) -> Metadata:
        if self._tiff is not None:
            with self.path.open("rb") as file:
                from upscale_cli.media import tiff

                return tiff.metadata(file)
        image = self._image
        assert image is not None
        if image.format == "PNG" and self.info.frames == 1:
            image.load()  # text may stand behind the pixels
        found = carried.metadata(image, self.path, animated=self.info.animated)
        if "icc_profile" in image.info and found.icc is None:
            self._note("colour profile dropped: it is damaged, or not all of it is there")
        return found

    def _checked(self, found: Metadata) -> Metadata:
        icc, exif, cicp = found.icc, found.exif, None
        if icc is not None and (fault := icc_fault(icc)):
            self._note(f"colour profile dropped: {fault}")
            icc = None
        said = self._color_codes()
        if said:
            icc, cicp, notes = png_color.believed(said, icc, grey=self.info.channels == 1)
            for note in notes:
                self._note(note)
        if exif is not None:
            try:
                if not ifd.is_whole(exif):
                    self._note("EXIF is damaged: what could be read of it is kept")
                    exif = ifd.block(*ifd.parse(exif))
                ifd.for_output(exif, 1, 1)
            except ValueError as error:
                self._note(f"EXIF dropped: it is damaged ({error})")
                exif = None
        dpi = found.dpi if found.dpi is None or all(0 < value < 1e6 for value in found.dpi) else None
        return replace(found, icc=icc, exif=exif, dpi=dpi, cicp=cicp)

    def _color_codes(self) -> dict[bytes, bytes]:
        """What is said of colours beside a profile, as PNG's chunks."""
        if self._head.startswith(png.SIGNATURE):
            return self._ask(png.color_chunks)
        codes = heif.color_codes(self._image) if self._image is not None and self.info.format == heif.NAME else None
        return {b"cICP": codes} if codes else {}

    def _frame(self, index: int) -> Frame:
        if self._image is None:
            self._open()
        image = self._image
        assert image is not None
        icc = self.metadata.icc
        if self.info.frames > 1:
            image.seek(index + self._first)
        if not index and not self._guard.salvaging:
            self._ask(png.verify if image.format == "PNG" else sniff.check)
        pixels = self._pixels(image, icc)
        seconds = image.info.get("duration", 0) / 1000 if self.info.animated else None
        frame = self._finish(pixels, self._turn, seconds)
        if self.info.frames == 1:
            self.close()  # or Pillow's own pixels, 4 bytes each, would stay until the last strip is written
        return frame

    def _pixels(self, image: Image.Image, icc: bytes | None) -> Pixels:
        if self._heif_bits > 8:
            return heif.deep(self.path, self._heif_bits)
        image.load()
        deep = self.info.depth == 16 and self._png_depth == 16
        return self._deep_png(image) if deep else from_pillow(image, icc)

    def _deep_png(self, image: Image.Image) -> Pixels:
        if image.mode.startswith("I;16"):
            return from_pillow(image, None)  # 16-bit grey is the one deep kind that Pillow keeps
        with self.path.open("rb") as file:
            data = png.bare(file)
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if array is None or array.dtype != np.uint16 or array.shape[:2] != image.size[::-1]:
            raise ValueError("its 16-bit pixels are damaged")
        grey = self._head[25] in (0, 4)
        color = array[..., 2:3] if grey else array[..., 2::-1]
        alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
        return Pixels(np.ascontiguousarray(color), alpha)

    def _finish(self, pixels: Pixels, turn: int, seconds: float | None) -> Frame:
        for note in pixels.notes:
            self._note(note)
        if pixels.icc is not None:
            self._metadata = replace(self.metadata, icc=pixels.icc)
        alpha = None if pixels.alpha is None else upright(pixels.alpha, turn)
        return Frame(upright(pixels.color, turn), alpha, seconds)

    # --- TIFF ----------------------------------------------------------------------------------------------------

    def _open_tiff(self) -> ImageInfo:
        import tifffile  # a tenth of what a run takes to start: most runs see no TIFF

        from upscale_cli.media import tiff

        tiff.check_header(self._head, self.path.stat().st_size)
        self._tiff = tifffile.TiffFile(self.path)
        self._pages = tiff.pages(self._tiff)
        if not self._pages:
            raise self._guard.fault("is a TIFF file without a picture.")
        page = self._pages[0]
        self._guard.check_pixels(page.imagewidth, page.imagelength)
        width, height = page.imagewidth, page.imagelength
        if tiff.orientation(page) >= 5:
            width, height = height, width
        return ImageInfo(
            self.path,
            "TIFF",
            width,
            height,
            len(self._pages),
            tiff.depth(page),
            tiff.channels(page),
            tiff.has_alpha(page),
            False,
            tuple(self.notes),
        )

    def _tiff_frame(self, index: int) -> Frame:
        from upscale_cli.media import tiff

        page = self._pages[index]
        self._guard.check_pixels(page.imagewidth, page.imagelength)
        if not self._guard.salvaging:
            tiff.check_complete(page, self.path.stat().st_size)
        if tiff.by_pillow(page) and (pixels := self._eight_bit_page(page)) is not None:
            return self._finish(pixels, 1, None)
        return self._finish(tiff.decode(page, page.index, self.metadata.icc), 1, None)

    def _eight_bit_page(self, page: "tifffile.TiffPage") -> Pixels | None:
        """By Pillow, which turns it upright; None where it does not know the arrangement of samples."""
        try:
            image = Image.open(self.path, formats=("TIFF",))
        except UnidentifiedImageError:
            return None
        with image:
            image.seek(page.index)
            image.load()
            return from_pillow(image, self.metadata.icc)
