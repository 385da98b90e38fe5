"""Pictures out: `ImageSink`, under whose final name only whole files ever stand.

Pillow encodes JPEG, WebP, AVIF, BMP, GIF and animations; PNG and TIFF have their own rooms, for 16 bits and EXIF.
Whatever a format cannot hold is dropped with a note. Refuses several pictures where a format holds one, and sizes
beyond a format's limit.
"""

import io
import math
import os
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Literal, Self

import numpy as np
from PIL import Image, PngImagePlugin

from upscale_cli.errors import OutputError
from upscale_cli.media import exif as ifd
from upscale_cli.media import png
from upscale_cli.media.formats import ANIMATED, DEEP, HELD, OPAQUE, can_hold, size_fault
from upscale_cli.media.frame import Canvas, Frame
from upscale_cli.media.metadata import Metadata, icc_fault, icc_space
from upscale_cli.media.paths import shown, temporary
from upscale_cli.media.pixels import on_white, to_depth

if TYPE_CHECKING:
    from upscale_cli.media import tiff

_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}
_WORDS = {
    "icc": "colour profile",
    "cicp": "colours by cICP",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "text": "text",
}
_SEGMENT_BYTES = 65533  # of one JPEG marker
_SHOWN_MS = 100  # for a frame of an animation that has no time of its own


class ImageSink:
    """A picture being written. Use as a context manager; `write` frames of one picture, page by page or frame by frame,
    each whole or by strips.

    The bytes go to a hidden temporary name in the target's folder, are flushed to the disk, and take the final name in
    one step when the block ends well; after an exception nothing is left. TIFF pages and PNG are written as they come;
    pictures of other formats, and the frames of an animation, are kept until the end. Orientation and size tags are
    corrected for the frames given. `depth` keeps the frames' depth, or asks for 8 or 16 bits; `quality` is 1 to 100
    (JPEG, WebP, AVIF; WebP at 100 is lossless); `exclusive` refuses to replace a file; `pages` is how many are to come.
    `notes` says in a line each what was dropped or reduced. Raises OutputError.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: str,
        metadata: Metadata,
        depth: Literal["keep", "8", "16"] = "keep",
        quality: int | None = None,
        exclusive: bool = False,
        pages: int = 1,
    ):
        self.path = path
        self.bytes = 0
        self.notes: list[str] = []
        self._format = format
        self._metadata = metadata
        self._depth = depth
        self._quality = quality if quality is not None else _QUALITY.get(format)
        self._exclusive = exclusive
        self._pages = pages
        self._frames: list[Frame] = []
        self._canvas: Canvas | None = None
        self._count = 0
        self._left = 0  # rows to come of the frame that was begun
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None
        self._png: png.Writer | None = None
        self._tiff: tiff.PageWriter | None = None

    def __enter__(self) -> Self:
        made = temporary(self.path)
        try:
            # "x" and the user's own umask; tempfile would make the final file private
            self._file = made.open("x+b")
        except OSError as error:
            raise self._fault(error) from error
        self._temporary = made
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except (OSError, ValueError, MemoryError) as fault:
            raise self._fault(fault) from fault
        finally:
            self._remove()

    def write(self, frame: Frame, *, height: int | None = None) -> None:
        """Add a frame, or the next strip, from top to bottom, of one that is `height` rows high in all.

        Raises OutputError where the format cannot hold it at all; a lesser loss is noted.
        """
        first = not self._left
        if first:
            self._left = frame.height if height is None else height
            self._check(frame)
        strip = self._reduced(frame)
        try:
            if first:
                self._begin(strip)
            self._add(strip)
        except (OSError, ValueError) as error:
            raise self._fault(error) from error
        self._left -= frame.height

    def _check(self, frame: Frame) -> None:
        """OutputError where the frame that begins has no place here."""
        if fault := size_fault(self._format, frame.width, self._left):
            raise OutputError(f"{shown(self.path)}: {fault}")
        animated = frame.seconds is not None and self._png is None
        if self._count and self._format != "TIFF" and not (animated and self._format in ANIMATED):
            raise OutputError(f"{shown(self.path)}: {can_hold(self._format, animated=animated, pages=2)}.")
        if self._format == "TIFF" and frame.seconds is not None:
            self._note("TIFF holds no delays between frames: dropped")

    def _fault(self, error: Exception) -> OutputError:
        if isinstance(error, OSError) and error.strerror:
            why = f"{error.strerror}. Make room there, or choose another -o."
        elif isinstance(error, MemoryError):
            why = "there is no memory for it. Use a smaller --scale."
        else:
            why = f"{error}. Choose another format with -f."
        return OutputError(f"{shown(self.path)} cannot be written: {why}")

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    # --- what the format can hold ----------------------------------------------------------------------------------

    def _reduced(self, frame: Frame) -> Frame:
        color, alpha = frame.color, frame.alpha
        if alpha is not None and self._format in OPAQUE:
            color, alpha = on_white(color, alpha), None
            self._note(f"{self._format} holds no transparency: placed on white")
        depth = frame.depth if self._depth == "keep" else int(self._depth)
        if depth > 8 and self._format not in DEEP:
            self._note(f"{self._format} holds 8 bits: reduced from {depth} bits")
            depth = 8
        color = to_depth(color, depth)
        return Frame(color, None if alpha is None else to_depth(alpha, depth), frame.seconds)

    def _fitting(self, first: Frame) -> Metadata:
        """The metadata for the picture that begins so in this format; what has no place is noted."""
        found = self._metadata.for_output(first.width, self._left)
        held = HELD[self._format]
        lost = {name for name in _WORDS if name != "text" and getattr(found, name) and name not in held}
        if found.exif is not None and "exif" in held:
            lost -= {"dpi"}  # EXIF carries the resolution as well
        text = tuple(pair for pair in found.text if "text" in held or ("comment" in held and pair[0] == "Comment"))
        if len(text) < len(found.text):
            lost.add("text")
        if lost:
            names = ", ".join(_WORDS[name] for name in _WORDS if name in lost)
            self._note(f"{self._format} has no place for {names}: dropped")
        found = replace(found, text=text, **{name: None for name in lost if name != "text"})
        return self._within_segments(replace(found, icc=self._icc(found.icc, first)))

    def _icc(self, icc: bytes | None, first: Frame) -> bytes | None:
        if icc is None:
            return None
        fault = icc_fault(icc)
        # WebP has no grey, and AVIF none with alpha: what is stored there is RGB
        colored = first.channels == 3 or self._format == "WEBP" or (self._format == "AVIF" and first.alpha is not None)
        wanted = "RGB" if colored else "GRAY"
        if fault is None and icc_space(icc) != wanted:
            fault = f"it is for {icc_space(icc)}, the picture is {'grey' if wanted == 'GRAY' else 'RGB'}"
        if fault is not None:
            self._note(f"colour profile dropped: {fault}")
            return None
        return icc

    def _within_segments(self, found: Metadata) -> Metadata:
        if self._format != "JPEG":
            return found
        for name, overhead in (("exif", 6), ("xmp", 29), ("iptc", 40)):
            value = getattr(found, name)
            if value is not None and len(value) + overhead > _SEGMENT_BYTES:
                self._note(f"{_WORDS[name]} dropped: its {len(value):,} bytes are more than a JPEG segment holds")
                found = replace(found, **{name: None})
        short = tuple(pair for pair in found.text if len(pair[1].encode("utf-8", "replace")) <= _SEGMENT_BYTES)
        if len(short) < len(found.text):
            self._note("text dropped: it is more than a JPEG segment holds")
        return replace(found, text=short)

    # --- bytes -----------------------------------------------------------------------------------------------------

    def _begin(self, strip: Frame) -> None:
        assert self._file is not None
        if not self._count:
            self._metadata = self._fitting(strip)
        self._count += 1
        pixels = _joined(strip)
        shape = (self._left, *pixels.shape[1:])
        if self._format == "TIFF":
            if self._tiff is None:
                from upscale_cli.media import tiff  # imports tifffile, which other formats need not wait for

                expected = math.prod(shape) * pixels.itemsize * max(1, self._pages)
                self._tiff = tiff.PageWriter(self._file, metadata=self._metadata, bytes_expected=expected)
            self._tiff.begin(shape, pixels.dtype)
        elif self._format == "PNG" and strip.seconds is None:
            self._png = png.Writer(self._file, shape, pixels.dtype, self._metadata)
        else:
            self._canvas = Canvas(self._left)

    def _add(self, strip: Frame) -> None:
        if self._canvas is None:
            writer = self._png or self._tiff
            assert writer is not None
            writer.write(_joined(strip))
        elif (frame := self._canvas.add(strip)) is not None:
            self._frames.append(frame)

    def _encoded(self) -> bytes:
        """The frames that were kept, by Pillow."""
        buffer = io.BytesIO()  # Pillow does not notice when a disk takes only part of its last block; Python does
        images = [_pillow(frame) for frame in self._frames]
        if self._format == "GIF":
            images = [self._palette(image) for image in images]
        options = self._options()
        if len(images) > 1:
            options |= self._animation()
            options |= {"save_all": True, "append_images": images[1:]}
        images[0].save(buffer, self._format, **options)
        return buffer.getvalue()

    def _options(self) -> dict[str, object]:
        """Pillow's arguments for one picture."""
        meta, options = self._metadata, {}
        if self._quality is not None:
            options["quality"] = self._quality
        if self._format in ("JPEG", "AVIF") and self._frames[0].channels == 3:
            options["subsampling"] = "4:4:4"
        if self._format == "WEBP" and self._quality == 100:
            options |= {"lossless": True, "exact": True, "quality": 50}  # for lossless, quality means effort
        if meta.icc is not None:
            options["icc_profile"] = meta.icc
        if meta.cicp is not None:
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add(b"cICP", meta.cicp)
        if meta.exif is not None:
            if self._format == "JPEG":
                options["exif"] = ifd.PREFIX + meta.exif
            elif self._format == "AVIF":  # it would take an orientation out by writing the whole block anew
                options["exif"] = ifd.without_orientation(meta.exif)
            else:
                options["exif"] = meta.exif
        if meta.xmp is not None:
            options["xmp"] = meta.xmp
        if meta.dpi is not None or self._format == "BMP":
            options["dpi"] = meta.dpi or (0, 0)  # BMP always has the field, and Pillow would put 96 there
        if meta.iptc is not None:
            options["extra"] = _photoshop_segment(meta.iptc)
        for _, text in meta.text:
            options["comment"] = text.encode("utf-8", "replace")
        return options

    def _animation(self) -> dict[str, object]:
        delays = [_SHOWN_MS if frame.seconds is None else round(frame.seconds * 1000) for frame in self._frames]
        options: dict[str, object] = {"duration": delays}
        loop = self._metadata.loop
        if self._format == "GIF":
            options["disposal"] = 2 if any(frame.alpha is not None for frame in self._frames) else 0
            if loop is not None and loop != 1:
                options["loop"] = loop
        elif self._format in ("PNG", "WEBP"):
            options["loop"] = 1 if loop is None else loop
        return options

    def _palette(self, image: Image.Image) -> Image.Image:
        """256 colours, or 255 and a transparent one: GIF knows alpha only as on or off."""
        if "A" not in image.mode:
            return image if image.mode == "L" else _quantised(image, 256)
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        if ((alpha > 0) & (alpha < 255)).any():
            self._note("GIF holds no half transparency: made on or off")
        indexed = _quantised(rgba.convert("RGB"), 255)
        indexed.paste(255, mask=Image.fromarray(np.where(alpha < 128, np.uint8(255), np.uint8(0))))
        palette = (indexed.getpalette() or [])[: 255 * 3]
        indexed.putpalette(palette + [0] * (768 - len(palette)))
        indexed.info["transparency"] = 255
        return indexed

    def _finish(self) -> None:
        if not self._count:
            raise OutputError(f"{shown(self.path)} cannot be written: there is no picture to write.")
        assert self._file is not None
        assert self._temporary is not None
        if self._left:
            raise ValueError(f"{self._left} of its rows are missing")
        if self._frames:
            self._file.write(self._encoded())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._exclusive:
            self._link()
        else:
            os.replace(self._temporary, self.path)  # noqa: PTH105  the one call that is atomic everywhere
            self._temporary = None

    def _link(self) -> None:
        """Take the final name only if nobody has it."""
        assert self._temporary is not None
        try:
            os.link(self._temporary, self.path)
        except FileExistsError as error:
            raise OutputError(f"{shown(self.path)} exists. Use --overwrite, or choose another -o.") from error

    def _remove(self) -> None:
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            except OSError:  # a full disk refuses the rest of the buffer once more; the file goes anyway
                self._note("the unfinished file was removed")
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


def _joined(frame: Frame) -> np.ndarray:
    """H x W x (C + alpha)."""
    return frame.color if frame.alpha is None else np.concatenate([frame.color, frame.alpha[..., None]], 2)


def _pillow(frame: Frame) -> Image.Image:
    pixels = _joined(frame)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _quantised(image: Image.Image, colors: int) -> Image.Image:
    palette = image.quantize(colors, Image.Quantize.MEDIANCUT)
    return image.quantize(colors, palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _photoshop_segment(iptc: bytes) -> bytes:
    """The JPEG segment in which IPTC records travel (Adobe Photoshop file formats, image resource 0x0404)."""
    body = (
        b"Photoshop 3.0\x00" + b"8BIM\x04\x04\x00\x00" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    )
    return b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body
