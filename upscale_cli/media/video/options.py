"""How videos are read and written, as the user says it. Knows no codec: what a wish comes to is `encoder`'s."""

from dataclasses import dataclass
from typing import Literal

from upscale_cli.errors import UsageError

CodecName = Literal["auto", "h264", "hevc", "av1", "ffv1", "prores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """UsageError for what cannot mean anything."""

    codec: CodecName = "auto"
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
    part_frames: int | None = None
    """Frames of a part, the most that a kill costs; None is chosen by their size."""

    def __post_init__(self) -> None:
        for pair in self.encoder:
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise UsageError(f"-e {pair} means nothing. Write -e key=value, such as -e tune=grain.")
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise UsageError(f"--crf {self.crf:g} means nothing. Choose a number from 0, best, to 63.")
        if self.part_frames is not None and self.part_frames < 1:
            raise UsageError(f"--part-frames {self.part_frames} means nothing. Use 1 or more.")
