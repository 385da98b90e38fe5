"""One job under way: what its threads note of it, and the result that comes of that. Runs nothing."""

import traceback
from dataclasses import dataclass, field
from pathlib import Path

from upscale_cli.calm import Calm
from upscale_cli.cube import Cube
from upscale_cli.errors import DeviceLostError, UpscaleError
from upscale_cli.keyframes import Keyframes
from upscale_cli.lane import Clock
from upscale_cli.media.colorspace import Meaning
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.job import Job
from upscale_cli.media.metadata import Metadata
from upscale_cli.stage import Effort


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job. With an `error` there is nothing new under the target's name."""

    source: Path
    target: Path
    frames: int
    seconds: float
    """Time at work on it, reading, enlarging and writing; waiting for one another is left out."""
    tile_px: int
    """0 when no network ran."""
    precision: str
    backend: str
    """What ran the network."""
    retries: int
    notes: tuple[str, ...]
    error: str | None = None
    in_pixels: int = 0
    out_pixels: int = 0
    reading_seconds: float = 0.0
    """Of `seconds`; what is left beside this and writing is enlarging."""
    writing_seconds: float = 0.0
    device_lost: bool = False
    """It failed because the device takes no more work."""
    missing: str = ""
    """What the source promised and did not hold; what there is of it was made."""


@dataclass(frozen=True, slots=True)
class Event:
    """News for a progress display, told in the calling thread."""

    job_index: int
    fraction: float
    """Of this job's enlargement, 0 to 1."""
    finished: JobResult | None = None
    frames: int = 0
    """Of a video, made so far."""
    bytes: int = 0
    """Of a video, written so far."""


@dataclass(slots=True, eq=False)
class Work:
    """A job under way. Each thread writes fields of its own; the first error stays."""

    index: int
    job: Job
    info: ImageInfo | None = None
    metadata: Metadata = field(default_factory=Metadata)
    reading: Clock = field(default_factory=Clock)
    enlarging: Clock = field(default_factory=Clock)
    writing: Clock = field(default_factory=Clock)
    source_notes: tuple[str, ...] = ()
    sink_notes: tuple[str, ...] = ()
    effort: Effort = field(default_factory=Effort)
    frames: int = 0
    """Done, those that an earlier run made included."""
    bytes: int = 0
    missing: str = ""
    part: int = 1
    """Frames after which the next must come out the same whatever came before: there a killed film goes on."""
    block: int = 1
    """Frames that another run makes all of or none of, so that they may go through the network together."""
    frame_bytes: int = 0
    """What each holds on its way to the network."""
    static: float | None = None
    """By how many levels tiles may change from frame to frame and count as one; None where frames are unrelated."""
    keyframes: Keyframes | None = None
    calm: Calm | None = None
    cube: Cube | None = None
    """The table of its first frame."""
    meaning: Meaning = field(default_factory=Meaning)
    """Of its colours, where they are given a style."""
    in_pixels: int = 0
    out_pixels: int = 0
    error: Exception | None = None

    @property
    def kind(self) -> object:
        """What still pictures have in common that may go through the network together: as large and as deep, they
        become as large. Of anything else it is itself, as its frames go with no other's.
        """
        job, info = self.job, self.info
        if info is None or not info.counted or info.animated or info.frames > 1:
            return self
        return info.height, info.width, info.channels, info.alpha, info.depth, job.height, job.width

    @property
    def colors(self) -> object:
        """What one `meaning` comes of, where pictures are of one kind; of a still picture, once it was read."""
        return self.metadata.icc, self.metadata.cicp, self.info and self.info.format

    def fail(self, error: Exception) -> None:
        """The first counts. Where it came from lets go of what it held, pictures among it: that refers to this work,
        and would stay until cycles are looked for.
        """
        self.error = self.error or error
        faults: list[BaseException] = [error]
        for fault in faults:
            traceback.clear_frames(fault.__traceback__)
            cause = fault.__cause__ or fault.__context__
            if cause is not None and cause not in faults:
                faults.append(cause)

    def result(self) -> JobResult:
        keyed = self.keyframes.notes if self.keyframes else ()
        notes = (*self.source_notes, self.meaning.note, *self.effort.notes, *keyed, *self.sink_notes)
        return JobResult(
            source=self.job.source,
            target=self.job.target,
            frames=self.frames,
            seconds=self.reading.seconds + self.enlarging.seconds + self.writing.seconds,
            tile_px=self.effort.tile_px,
            precision=self.effort.precision,
            backend=self.effort.backend,
            retries=self.effort.retries,
            notes=tuple(dict.fromkeys(filter(None, notes))),
            error=None if self.error is None else _message(self.error),
            in_pixels=self.in_pixels,
            out_pixels=self.out_pixels,
            reading_seconds=self.reading.seconds,
            writing_seconds=self.writing.seconds,
            device_lost=isinstance(self.error, DeviceLostError),
            missing=self.missing,
        )


def _message(error: Exception) -> str:
    if isinstance(error, UpscaleError):
        return str(error)
    if isinstance(error, MemoryError):
        return "This machine has no memory for this picture. Close other programs, or use a smaller --scale."
    # A codec met what its author did not foresee. It must not end a night's work, nor pass for the user's mistake.
    return f"Unexpected {type(error).__name__}: {error}. Please report it with this file."
