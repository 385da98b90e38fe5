"""Camera RAW in: a sensor's values developed by LibRaw (rawpy, the extra `raw`) to an upright picture of 16 bits.

White as the camera saw it; no automatic brightness, which would give the pictures of a series a light each. The working
space is sRGB with its own curve, and the profile says so: it is what the networks were trained on, and what programs
take an untagged picture for. EXIF, GPS, XMP and IPTC come from the file where it is a TIFF inside (DNG, NEF, CR2, ARW,
PEF and others) or several in boxes (CR3), else from the preview it carries (RAF, RW2 and others), else a note says that
they are lost. Tags that only describe the sensor are left out. LibRaw cannot write RAW, and neither can this.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from upscale_cli.errors import InputError
from upscale_cli.media import exif as ifd
from upscale_cli.media import sniff
from upscale_cli.media.formats import RAW
from upscale_cli.media.frame import Frame
from upscale_cli.media.guard import Guard
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.job import PictureOptions
from upscale_cli.media.metadata import Metadata, srgb_profile

if TYPE_CHECKING:
    import rawpy

INSTALL = 'Install it with `pip install "upscale-cli[raw]"`'
_SRGB_CURVE = (2.4, 12.92)
_HIGHLIGHTS = {"clip": 0, "blend": 2, "rebuild": 5}  # as dcraw's -H counts
_OF_THE_SENSOR = {*range(1, 254), 33421, 33422, *range(50706, 52600)}
"""Panasonic's own, the pattern of the filters, and what DNG adds to TIFF: none means anything beside other pixels."""


class RawSource:
    """An open RAW file: the interface of `files.Source`, with one frame. Raises InputError."""

    def __init__(self, path: Path, options: PictureOptions) -> None:
        self.path = path
        self.missing = ""
        self.notes: list[str] = []
        self._guard = Guard(path, max_pixels=options.max_pixels)
        self._options = options
        self._metadata: Metadata | None = None
        self._library = self._rawpy()
        self._raw = self._opened()
        try:
            self.info = self._probed()
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()

    @property
    def metadata(self) -> Metadata:
        if self._metadata is None:
            found = self._carried()
            # An RGB profile is none for a grey picture; without one it is shown by the same curve.
            icc = srgb_profile() if self.info.channels == 3 else None
            self._metadata = Metadata(icc=icc, exif=found.exif, xmp=found.xmp, iptc=found.iptc)
        return self._metadata

    def frames(self) -> Iterator[Frame]:
        """The one picture: upright, RGB, or grey of a sensor without colour filters; uint16."""
        white = self._raw.camera_whitebalance
        measured = min(white[:3]) > 0
        if not measured and self.info.channels == 3:
            self._note("the camera noted no white balance: that of daylight is taken")
        with self._reading():
            pixels = self._raw.postprocess(
                use_camera_wb=measured,
                output_color=self._library.ColorSpace.sRGB,
                output_bps=16,
                gamma=_SRGB_CURVE,
                no_auto_bright=True,
                highlight_mode=_HIGHLIGHTS[self._options.raw.highlights],
                half_size=self._options.raw.fast,
            )
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise self._guard.fault(
                f"was developed to {pixels.shape[1]} x {pixels.shape[0]} pixels, where its header says "
                f"{self.info.width} x {self.info.height}. Develop it to a TIFF in another program."
            )
        yield Frame(np.ascontiguousarray(pixels[..., : self.info.channels]))

    def _rawpy(self) -> ModuleType:
        try:
            import rawpy
        except ImportError as error:
            raise self._guard.fault(f"is a RAW photograph, which rawpy reads. {INSTALL}.") from error
        return rawpy

    def _opened(self) -> "rawpy.RawPy":
        if not self._options.allow_truncated:
            self._check_whole()
        with self._reading():
            return self._library.imread(str(self.path))

    def _probed(self) -> ImageInfo:
        raw = self._raw
        sizes = raw.sizes
        height, width = sizes.height, sizes.width
        grey = raw.num_colors == 1
        if self._options.raw.fast and not grey and raw.raw_type == self._library.RawType.Flat:
            height, width = (height + 1) // 2, (width + 1) // 2
        # Sensors whose pixels are no squares: LibRaw stretches what is short.
        if sizes.pixel_aspect < 0.995:
            height = int(height / sizes.pixel_aspect + 0.5)
        elif sizes.pixel_aspect > 1.005:
            width = int(width * sizes.pixel_aspect + 0.5)
        if sizes.flip & 4:
            height, width = width, height
        self._guard.check_pixels(width, height)
        return ImageInfo(self.path, RAW, width, height, 1, 16, 1 if grey else 3, False, False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """LibRaw's errors in our words."""
        library = self._library
        try:
            yield
        except (library.LibRawFileUnsupportedError, library.NotSupportedError) as error:
            raise self._guard.fault(
                "is no RAW photograph that LibRaw can read, or is damaged. Convert it to DNG or TIFF first."
            ) from error
        except (library.LibRawIOError, library.LibRawDataError) as error:
            raise self._guard.fault("is truncated or damaged: its pixels end early. Get the whole file.") from error
        except (library.LibRawUnsufficientMemoryError, library.LibRawTooBigError, MemoryError) as error:
            raise self._guard.fault("needs more memory than there is. Use --fast for half its size.") from error
        except library.LibRawError as error:
            raise self._guard.fault(f"cannot be developed by LibRaw: {_words(error)}.") from error

    def _check_whole(self) -> None:
        """InputError for a DNG that promises more than it holds, which LibRaw would tell on the terminal."""
        import tifffile

        from upscale_cli.media import tiff

        try:
            with tifffile.TiffFile(self.path) as file:
                if 50706 not in file.pages.first.tags:
                    return  # others keep odd things in odd places, and LibRaw knows which
                for page in file.pages:
                    assert isinstance(page, tifffile.TiffPage)
                    for part in (page, *(page.pages or ())):
                        assert isinstance(part, tifffile.TiffPage)
                        tiff.check_complete(part, self.path.stat().st_size)
        except EOFError as error:
            raise self._guard.fault(
                f"is truncated ({error}). Get the whole file, or salvage what is there with --allow-truncated."
            ) from error
        except (OSError, ValueError, RuntimeError, LookupError, AssertionError, ArithmeticError, TypeError):
            return  # no TIFF inside, or none that this library reads: LibRaw decides

    def _carried(self) -> Metadata:
        """What the file says beside its pixels."""
        from upscale_cli.media import cr3, tiff

        try:
            with self.path.open("rb") as file:
                head = file.read(12)
                reader = tiff if head[:4] in sniff.TIFF_MAGIC else cr3 if head[4:] == cr3.START else None
                found = reader.metadata(file) if reader else Metadata()
                if reader is tiff or found.exif is not None:
                    return Metadata(exif=_of_the_shot(found.exif), xmp=found.xmp, iptc=found.iptc)
            thumb = self._raw.extract_thumb()
            if thumb.format == self._library.ThumbFormat.JPEG and isinstance(thumb.data, bytes):
                with self._guard.reading(), Image.open(io.BytesIO(thumb.data), formats=("JPEG", "MPO")) as preview:
                    if block := preview.info.get("exif"):
                        return Metadata(exif=_of_the_shot(ifd.bare(block)))
        except (OSError, ValueError, InputError, self._library.LibRawError):
            pass  # said below
        self._note("EXIF dropped: it could not be read from this kind of RAW")
        return Metadata()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _of_the_shot(block: bytes | None) -> bytes | None:
    """The EXIF block without what describes the sensor."""
    if block is None:
        return None
    directory, order = ifd.parse(block)
    return ifd.block({tag: field for tag, field in directory.items() if tag not in _OF_THE_SENSOR}, order)


def _words(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).lower()
