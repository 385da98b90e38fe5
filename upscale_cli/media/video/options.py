"""How videos are read and written, as the user says it. Knows no codec: what a wish comes to is `encoder`'s."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from upscale_cli.errors import UsageError

PREVIEW_SECONDS = 3.0
KEYFRAME_EVERY = 12
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", re.ASCII)

CODECS = ("auto", "h264", "hevc", "av1", "ffv1", "prores")
CARD_CODECS = tuple(f"{codec}_{card}" for codec in ("h264", "hevc", "av1") for card in ("nvenc", "qsv", "amf"))

HWACCELS = ("auto", "none", "cuda", "qsv", "amf", "d3d11va", "videotoolbox", "vaapi")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """UsageError for what cannot mean anything."""

    codec: str = "auto"
    """One of CODECS or CARD_CODECS."""
    crf: float | None = None
    """Constant quality, lower is better; None is visually lossless."""
    preset: str | None = None
    """As the encoder calls it, `slow` or `6`."""
    pix_fmt: str | None = None
    """As FFmpeg calls it; None is nearest to the source."""
    encoder: tuple[str, ...] = ()
    """`key=value`, for the encoder itself."""
    deinterlace: bool = True
    """False refuses interlaced videos."""
    hwaccel: str = "auto"
    """One of HWACCELS: who decodes. No frame depends on it."""
    part_frames: int | None = None
    """Frames of a part, the most that a kill costs; None is chosen by their size."""
    start: float = 0.0
    """Seconds after the beginning of the film from which on it is made."""
    end: float | None = None
    fps: str | None = None
    """How many numbered pictures are a second of film, such as `25` or `30000/1001`."""
    preview: bool = False
    """Only a sample out of the middle of that."""
    split: bool = False
    """The left half of every frame is its source's, only resized."""
    skip_static: float = 0.0
    """Levels of 255 by which a tile may differ from the one last inferred there, and be taken for it."""
    temporal: float = 0.0
    """How much of what a network added to the frame before is kept where that was the same, 0 to 1."""
    keyframe_every: int | None = None
    """Frames from one keyframe to the next, which a stronger network is asked too; None where there is none."""

    def window(self, seconds: float) -> tuple[float, float] | None:
        """From when to when a film of this length is made, in seconds after its beginning; None is all of it."""
        start, end = self.start, self.end
        if self.preview:
            middle = (start + min(seconds or PREVIEW_SECONDS, math.inf if end is None else end) - PREVIEW_SECONDS) / 2
            start = max(start, middle)
            end = min(start + PREVIEW_SECONDS, math.inf if end is None else end)
        return None if start == 0 and end is None else (start, math.inf if end is None else end)

    @property
    def marks(self) -> str:
        """What sets a sample or a comparison apart from the film itself, in its name."""
        return "_preview" * self.preview + "_split" * self.split

    @property
    def remembers(self) -> bool:
        """Whether a frame depends on those before it in its part."""
        return self.skip_static > 0 or self.temporal > 0 or self.keyframe_every is not None

    @property
    def rate(self) -> Fraction | None:
        """Numbered pictures a second; 23.976, 29.97 and the like are N x 1000/1001."""
        if self.fps is None:
            return None
        try:
            rate = Fraction(self.fps)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not Fraction(1, 1000) <= rate <= 1000:
            raise UsageError(
                f"--fps {self.fps} means nothing. Write pictures a second, such as 25, 23.976 or 30000/1001."
            )
        whole = math.ceil(rate)
        broadcast = Fraction(whole * 1000, 1001)
        return broadcast if rate != whole and abs(rate - broadcast) < Fraction(1, 100) else rate

    def __post_init__(self) -> None:
        _ = self.rate
        if self.codec not in CODECS + CARD_CODECS:
            known, cards = ", ".join(CODECS), ", ".join(CARD_CODECS)
            raise UsageError(f"--codec {self.codec} is not known. Choose {known}, or a graphics card's: {cards}.")
        if self.hwaccel not in HWACCELS:
            raise UsageError(f"--hwaccel {self.hwaccel} is not known. Choose {', '.join(HWACCELS)}.")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UsageError(
                f"--start {self.start:g} --end {self.end} is no part of a film. Let it end after it starts."
            )
        for pair in self.encoder:
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise UsageError(f"-e {pair} means nothing. Write -e key=value, such as -e tune=grain.")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise UsageError(f"--crf {self.crf:g} means nothing. Choose a number from 0, best, to 63.")
        if not 0 <= self.temporal <= 1:
            raise UsageError(f"--temporal {self.temporal:g} means nothing. Choose a number from 0, off, to 1.")
        if not 0 <= self.skip_static <= 255:
            raise UsageError(
                f"--skip-static {self.skip_static:g} means nothing. Choose levels from 0, only what is equal, to 255."
            )
        for name, frames in (("part-frames", self.part_frames), ("keyframe-every", self.keyframe_every)):
            if frames is not None and frames < 1:
                raise UsageError(f"--{name} {frames} means nothing. Use 1 or more.")


def seconds_of(words: str) -> float:
    """`90`, `1:30` or `0:01:30.0` in seconds; UsageError for anything else."""
    found = _CLOCK.fullmatch(words)
    if not found:
        raise UsageError(f"{words!r} is no time. Write seconds, 1:30 or 0:01:30.5.")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
