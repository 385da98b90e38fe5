"""One file to make of another, and how: what sources, sinks and everything between are told. Opens nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upscale_cli.media.colorspace import AS_SRGB, Assumed
from upscale_cli.media.image import DEFAULT_MAX_PIXELS
from upscale_cli.media.video.options import VideoOptions


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make, or one video."""

    source: Path
    target: Path
    format: str
    """Pillow's name, or a container's: `PNG`, `MP4`."""
    height: int
    """Of the output, upright."""
    width: int
    key: str = ""
    """What an unfinished video is known by: all that decides it; empty for a picture."""
    cube: Path | None = None
    """Where the table of colours goes that the picture was given."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an earlier run came with a film."""

    frames: int = 0
    mark: tuple[int, ...] = ()
    """Of the last of them, as its source gave it."""


AFRESH = Reached()


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOptions:
    """How camera RAW is developed; see `raw.py`."""

    fast: bool = False
    """Half as wide and high: every 2 x 2 of the sensor's pixels become one, and nothing is interpolated."""
    highlights: Literal["clip", "blend", "rebuild"] = "clip"
    """Where one colour is at its end and others are not: white, a mean of cut and not cut, or guessed from around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """How pictures and videos are read and written."""

    depth: Literal["keep", "8", "16"] = "keep"
    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    allow_truncated: bool = False
    keep_metadata: bool = True
    """False leaves only what the pixels mean (the colour profile) and how an animation loops."""
    assumed: Assumed = AS_SRGB
    """What pictures without a colour profile are in, where a style has to know."""
    raw: RawOptions = RawOptions()
    video: VideoOptions = field(default_factory=VideoOptions)
