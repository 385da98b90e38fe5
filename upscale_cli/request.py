"""What the user asked for: the settings of one run, and which of them cannot mean anything.

Owns defaults and their limits. Opens nothing.
"""

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from upscale_cli.errors import UsageError
from upscale_cli.manifest import DEFAULT_MODEL
from upscale_cli.media.formats import CONTAINERS, EXTENSIONS
from upscale_cli.media.paths import CollisionRule, check_template
from upscale_cli.networks import Combination
from upscale_cli.pipeline import PictureOptions
from upscale_cli.styles import Style

Existing = Literal["ask", "skip", "overwrite", "resume"]

DEFAULT_NAME = "{stem}_x{scale}"
STYLED_NAME = "{stem}_{style}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The wanted output size: one of a factor, a width, a height (pixels), or megapixels (millions of pixels)."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    megapixels: float | None = None

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None}
        if len(given) != 1:
            names = " and ".join(f"--{name}" for name in given) or "nothing"
            raise UsageError(f"{names}: give exactly one of --scale, --width, --height, --megapixels.")
        ((name, value),) = given.items()
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{name} must be above 0, not {value:g}.")

    def factor(self, height: int, width: int) -> float:
        """What an upright picture of this size is multiplied by."""
        if self.scale is not None:
            return self.scale
        if self.width is not None:
            return self.width / width
        if self.height is not None:
            return self.height / height
        return math.sqrt((self.megapixels or 0) * 1e6 / (width * height))


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` shares of all inputs, counted from 1: as many runs together do each input once."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"--shard {self} is no share. Of N shares take one from 1/N to N/N.")

    @classmethod
    def of(cls, words: str) -> "Shard":
        """From `2/8`; UsageError for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", words, re.ASCII)
        if not found:
            raise UsageError(f"--shard {words} means nothing. For the second of eight shares write --shard 2/8.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def file_name(self) -> str:
        """As a part of a file's name: `2-of-8`."""
        return f"{self.index}-of-{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Which network, or several as one, and how it runs."""

    model: str | Path | Combination | None = DEFAULT_MODEL
    """None for pictures that are not to be enlarged by a network."""
    keyframe_model: str | Path | Combination | None = None
    """A stronger one for keyframes of films, every `VideoOptions.keyframe_every`-th; None where there is none."""
    style: Style | None = None
    """What is done with a picture before that."""
    device: str = "auto"
    """One, or several with commas between them, which share the work; see `device.several`."""
    precision: str = "auto"
    backend: str = "auto"
    """What runs it: one of `engines.BACKENDS`, or `auto` for the fastest here."""
    tile_px: int = 0
    """0 is automatic."""
    overlap_px: int | None = None
    """None is the network's own margin and a ramp."""
    strength: float = 1.0
    """1 is the network alone, 0 plain interpolation."""
    offline: bool = False

    @property
    def unheard(self) -> tuple[str, ...]:
        """Options given that a table of colours alone has no use for: it is looked up in fp32, without tiles."""
        if self.model is not None or self.style is None or self.style.kind == "network":
            return ()
        given = {
            "--device": self.device not in ("auto", "cpu"),
            "--precision": self.precision not in ("auto", "fp32"),
            "--engine": self.backend not in ("auto", "torch"),
            "--tile": self.tile_px != 0,
            "--overlap": self.overlap_px is not None,
        }
        return tuple(name for name, unused in given.items() if unused)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One call of the main command. UsageError for settings that cannot mean anything, alone or together."""

    inputs: tuple[str, ...]
    output: Path | None = None
    """A folder, or for exactly one picture a file; None puts every output beside its input."""
    size: Size | None = None
    """None is twice the source's, and its own for a model that enlarges nothing."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    picture: PictureOptions = field(default_factory=PictureOptions)
    format: str | None = None
    """An ending such as `png`; None keeps the source's format where that can hold the picture."""
    frames: bool = False
    """Films become numbered pictures."""
    name: str | None = None
    """A template for names; None is `usual_name`."""
    recursive: bool = False
    existing: Existing = "ask"
    on_collision: CollisionRule = "rename"
    in_place: bool = False
    shard: Shard | None = None
    """None is all of it."""
    lut: Path | None = None
    """Where the table of colours of a picture is written: for one picture a .cube file, else a folder for one each."""

    def __post_init__(self) -> None:
        if self.network.model is None and self.network.style is None:
            raise UsageError("Neither a model nor a style is named: there is nothing to do.")
        if self.lut and (self.network.style is None or self.network.style.kind == "network"):
            raise UsageError("--lut writes a table of colours, and this style is none. Use --network lut3d.")
        check_template(self.template)
        if self.format is not None and self.format not in EXTENSIONS | CONTAINERS:
            known = ", ".join(EXTENSIONS | CONTAINERS)
            raise UsageError(f"--format {self.format!r} cannot be written. Choose one of {known}.")
        if self.in_place and (self.output or self.format or self.template != self.usual_name):
            raise UsageError(
                "--in-place keeps every picture's name and format: leave out --output, --name and --format."
            )
        if self.frames and (self.format in CONTAINERS or (self.output and self.output.suffix[1:] in CONTAINERS)):
            raise UsageError("--frames makes pictures of a film, not another film. Leave out one of the two.")
        video = self.picture.video
        if self.network.keyframe_model is None and video.keyframe_every is not None:
            raise UsageError("--keyframe-every is for --keyframe-model. Name the model, such as span.")
        if self.network.keyframe_model is not None and video.keyframe_every is None:
            raise UsageError("--keyframe-model needs to be told how often. Use --keyframe-every, such as 12.")
        if self.network.keyframe_model is not None and self.network.model is None:
            raise UsageError("--keyframe-model is for films that a lighter model enlarges. Name one with --model.")
        if self.in_place and (video.marks or video.start or video.end is not None):
            raise UsageError(
                "--in-place would lose the rest of the film: leave out --start, --end, --preview and --split."
            )
        for name, value, least in (("tile", self.network.tile_px, 0), ("overlap", self.network.overlap_px, 0)):
            if value is not None and value < least:
                raise UsageError(f"--{name} {value} means nothing. Use {least} or more.")
        if self.picture.quality is not None and not 1 <= self.picture.quality <= 100:
            raise UsageError(f"--quality {self.picture.quality} means nothing. Choose a number from 1 to 100.")
        if self.picture.max_pixels < 1:
            raise UsageError(f"--max-pixels {self.picture.max_pixels} lets nothing through. Use 1 or more.")
        if not 0 <= self.network.strength <= 1:
            raise UsageError(f"--strength {self.network.strength:g} means nothing. Choose a number from 0 to 1.")

    @property
    def usual_name(self) -> str:
        """The template where none is asked for: it names what is done."""
        if self.network.style is None:
            return DEFAULT_NAME
        return STYLED_NAME if self.network.model is None else STYLED_NAME + "_x{scale}"

    @property
    def template(self) -> str:
        """For the names of outputs."""
        return self.usual_name if self.name is None else self.name
