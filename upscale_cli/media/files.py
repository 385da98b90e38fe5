"""A file as a source of frames or as a sink for them, whichever kind it is. Tells the kinds apart, decodes none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import DEFAULT_MAX_PIXELS, ImageInfo, ImageSource
from upscale_cli.media.image import probe as probe_image
from upscale_cli.media.metadata import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """How pictures are read and written."""

    depth: Literal["keep", "8", "16"] = "keep"
    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    allow_truncated: bool = False
    keep_metadata: bool = True
    """False leaves only what the pixels mean (the colour profile) and how an animation loops."""


class _Open(Protocol):
    """What ends with its block."""

    notes: list[str]
    """One line for each thing dropped or converted; complete at the end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Source(_Open, Protocol):
    """An open file of frames; `info` is there at once, `metadata` is complete after a frame was read."""

    info: ImageInfo

    @property
    def metadata(self) -> Metadata: ...

    def frames(self) -> Iterator[Frame]: ...


class Sink(_Open, Protocol):
    """A file in the making, which takes its name when the block ends well."""

    def write(self, frame: Frame, *, height: int | None = None) -> None: ...


def probe(path: Path, options: PictureOptions) -> ImageInfo:
    """What the file holds, from its header. Raises InputError for what cannot be read."""
    return probe_image(path, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated)


def open_source(path: Path, options: PictureOptions) -> Source:
    """The frames of a file. Raises InputError."""
    return ImageSource(path, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated)


def open_sink(path: Path, options: PictureOptions, *, format: str, metadata: Metadata, info: ImageInfo) -> Sink:
    """Where the frames of a source with this `info` go. Raises OutputError."""
    return ImageSink(
        path, format=format, metadata=metadata, depth=options.depth, quality=options.quality, pages=info.frames
    )
