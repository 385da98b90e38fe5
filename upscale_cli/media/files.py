"""A file as a source of frames or as a sink for them, whichever kind it is. Tells the kinds apart, decodes none."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from upscale_cli.device import return_freed_memory
from upscale_cli.media import sniff
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.formats import CONTAINERS
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageInfo, ImageSource
from upscale_cli.media.job import AFRESH, Job, PictureOptions, Reached
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.paths import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.parts import Parts, frames_a_part
from upscale_cli.numbered import Log, Numbered


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

    missing: str
    """What the file promised and did not hold, where what there is was given all the same; complete at the end."""

    @property
    def info(self) -> ImageInfo: ...

    @property
    def metadata(self) -> Metadata: ...

    def frames(self) -> Iterator[Frame]: ...


class Sink(_Open, Protocol):
    """A file in the making, which takes its name when the block ends well."""

    bytes: int
    """Written so far, where that can be told."""

    def write(self, frame: Frame, *, height: int | None = None) -> None: ...


def is_video(path: Path) -> bool:
    """By its name, and where that says neither picture nor video, by its first bytes; numbered pictures are one."""
    if Numbered.of(path):
        return True
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES | PICTURE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        with path.open("rb") as file:
            return sniff.is_video(file.read(4096))
    except OSError:
        return False  # what is wrong with it is said where it is opened


def is_raw(path: Path) -> bool:
    """Whether LibRaw is to be asked: by its first bytes, and where those are anything's by its name."""
    try:
        with path.open("rb") as file:
            return sniff.is_raw(file.read(4096), path.suffix)
    except OSError:
        return False  # what is wrong with it is said where it is opened


def probe(path: Path, options: PictureOptions) -> ImageInfo:
    """What the file holds, from its header. Raises InputError for what cannot be read."""
    if Numbered.of(path):
        from upscale_cli.media.video.sequence import probe as probe_numbered

        return probe_numbered(path, options)
    if is_video(path):
        from upscale_cli.media.video.container import probe as probe_video

        info = probe_video(path, max_pixels=options.max_pixels)
        return replace(info, frames=info.frames_of(options.video))
    with open_picture(path, options) as source:
        return source.info


def open_source(path: Path, options: PictureOptions, reached: Reached = AFRESH) -> Source:
    """The frames of a file, of a video those after the ones that are `reached`. Raises InputError."""
    if Numbered.of(path):
        from upscale_cli.media.video.sequence import SequenceSource

        return SequenceSource(path, options, skip=reached.frames)
    if is_video(path):
        from upscale_cli.media.video.source import VideoSource

        return VideoSource(path, options.video, max_pixels=options.max_pixels, reached=reached)
    return open_picture(path, options)


def open_picture(path: Path, options: PictureOptions) -> Source:
    """A picture or camera RAW. Raises InputError, for a video as well."""
    if path.is_file() and is_raw(path):
        from upscale_cli.media.raw import RawSource

        return RawSource(path, options)
    return ImageSource(path, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated)


def made_already(job: Job, options: VideoOptions) -> Reached:
    """What an earlier run has left of a video, to go on after; nothing for a picture, which has no key."""
    if Numbered.of(job.target):
        marks = [(), *Log(job.target, job.key).made().values()]
        block = frames_a_block(job, options)
        made = (len(marks) - 1) // block * block
        return Reached(made, marks[made])
    return Parts(job.target, job.key).reached() if job.key else AFRESH


def frames_a_block(job: Job, options: VideoOptions) -> int:
    """Frames of a video from one place where another run may go on to the next."""
    if Numbered.of(job.target) and not options.remembers:
        return 1
    return frames_a_part(job.height, job.width, options.part_frames)


def open_sink(job: Job, options: PictureOptions, *, metadata: Metadata, info: ImageInfo) -> Sink:
    """Where the frames of a source with this `info` go. Raises OutputError."""
    if job.format in CONTAINERS.values():
        from upscale_cli.media.video.container import VideoInfo
        from upscale_cli.media.video.sink import VideoSink

        assert isinstance(info, VideoInfo)
        return_freed_memory()
        film = VideoSink(job, options, info)
        film.notes += ["colour profile dropped: films have none"] * bool(metadata.icc or metadata.cicp)
        return film
    if Numbered.of(job.target):
        from upscale_cli.media.video.container import VideoInfo
        from upscale_cli.media.video.sequence import SequenceSink

        assert isinstance(info, VideoInfo)
        return SequenceSink(job, options, info, metadata, made_already(job, options.video).frames)
    return ImageSink(
        job.target,
        format=job.format,
        metadata=metadata,
        depth=options.depth,
        quality=100 if info.lossless and job.format == info.format and options.quality is None else options.quality,
        pages=info.frames,
    )
