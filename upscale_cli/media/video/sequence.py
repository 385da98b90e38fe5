"""Numbered pictures as a film, in and out. Their decoding and encoding is that of pictures.

A film's pixels as pictures are complete under their names one by one; a log beside them says which are there.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from upscale_cli.errors import InputError, OutputError
from upscale_cli.media.encode import ImageSink
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageSource
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.paths import shown
from upscale_cli.media.pixels import to_depth
from upscale_cli.media.video.color import Color, PixelFormat
from upscale_cli.media.video.container import VideoInfo
from upscale_cli.numbered import Log, Numbered

_SRGB = Color(primaries=1, transfer=13, matrix=0, range=2)
_RATE = Fraction(25)  # where nobody asks


def numbered(path: Path) -> Numbered:
    """What such a name stands for. ValueError for any other name."""
    found = Numbered.of(path)
    if found is None:
        raise ValueError(f"{path} is one file")
    return found


def probe(path: Path, options: PictureOptions) -> VideoInfo:
    """What the pictures are as a film, by the first of them. InputError for what is none, and for a missing number."""
    files = numbered(path).files()
    if not files:
        raise InputError(f"{shown(path)}: there are no such pictures.")
    first, *_, last = (*files, *files)
    if absent := [number for number in range(first, last) if number not in files]:
        more = f", and {len(absent) - 1} more between {first} and {last}" if len(absent) > 1 else ""
        name = numbered(path).file(absent[0]).name
        raise InputError(f"{shown(path)}: {shown(name)} is missing{more}. Put it there, or number the rest anew.")
    with _opened(files[first], options) as source:
        info = source.info
    video = options.video
    if video.rate is None and (video.start or video.end is not None or video.preview):
        raise InputError(f"{shown(path)}: how long a picture of it lasts is not known. Say --fps, such as --fps 25.")
    rate = video.rate or _RATE
    made = VideoInfo(
        path=path,
        format=info.format,
        width=info.width,
        height=info.height,
        frames=len(files),
        depth=info.depth,
        channels=3,
        alpha=info.alpha,
        animated=True,
        stream=-1,
        time_base=Fraction(1, rate.numerator),
        rate=rate,
        seconds=float(len(files) / rate),
        pixels=PixelFormat.of("rgb48le" if info.depth == 16 else "rgb24"),
        color=_SRGB,
        sample_aspect=Fraction(1),
        start=0,
        turn=0,
        interlaced=False,
        hdr10=(),
        first=first,
    )
    return replace(made, frames=made.frames_of(video))


class SequenceSource:
    """Numbered pictures. Use as a context manager; `frames()` may be walked once.

    All are RGB and of the size of the first, in 8 or 16 bits as that is, with alpha where it has one.
    """

    missing = ""

    def __init__(self, path: Path, options: PictureOptions, *, skip: int = 0) -> None:
        """The first `skip` of what is asked for are not given. Raises InputError."""
        self.info = probe(path, options)
        self.notes: list[str] = []
        self.metadata = Metadata()
        self._files = numbered(path).files()
        self._options = options
        self._skip = skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def frames(self) -> Iterator[Frame]:
        """Every picture at its time, in a time base of which it lasts `rate.denominator`."""
        ticks, found = self.info.rate.denominator, 0
        begin, until = self.info.window(self._options.video) or (Fraction(0), None)
        for index, path in enumerate(self._files.values()):
            at = index / self.info.rate
            if at < begin:
                continue
            if until is not None and at >= until:
                break
            found += 1
            if found > self._skip:
                yield replace(self._frame(path), pts=index * ticks, ticks=ticks)
        if not found:
            raise InputError(f"{shown(self.info.path)}: it has no frame between --start and --end.")

    def _frame(self, path: Path) -> Frame:
        info = self.info
        with _opened(path, self._options) as source:
            frame = next(source.frames())
            if (frame.height, frame.width) != (info.height, info.width):
                raise InputError(
                    f"{shown(path)} is {frame.width} x {frame.height}, the first of them {info.width} x {info.height}. "
                    "A film has one size. Name the folder to enlarge each by itself."
                )
            found = source.metadata
            self.metadata = Metadata(icc=found.icc, dpi=found.dpi, cicp=found.cicp)
            if found.exif or found.xmp or found.iptc or found.text:
                self._note("EXIF, XMP and text of its pictures dropped")
            for note in source.notes:
                self._note(note)
        alpha = frame.alpha
        if info.alpha and alpha is None:
            alpha = np.full(frame.color.shape[:2], np.iinfo(frame.color.dtype).max, frame.color.dtype)
        elif alpha is not None and not info.alpha:
            alpha = None
            self._note("transparency dropped: the first of its pictures has none")
        color = to_depth(np.broadcast_to(frame.color, (*frame.color.shape[:2], 3)), info.depth)
        return Frame(np.ascontiguousarray(color), None if alpha is None else to_depth(alpha, info.depth))

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _opened(path: Path, options: PictureOptions) -> ImageSource:
    source = ImageSource(path, max_pixels=options.max_pixels, allow_truncated=options.allow_truncated)
    if source.info.frames > 1:
        source.close()
        raise InputError(f"{shown(path)} holds {source.info.frames} pictures, where a film takes one of each file.")
    return source


class SequenceSink:
    """Numbered pictures being written. Use as a context manager; `write` frames in order, whole or by strips.

    Numbers are those of the source where that is numbered, else they begin at 1. Raises OutputError.
    """

    def __init__(self, job: Job, options: PictureOptions, info: VideoInfo, metadata: Metadata, made: int) -> None:
        """`made` pictures are there already."""
        self.bytes = 0
        self.notes: list[str] = []
        self._job = job
        self._options = options
        self._info = info
        self._metadata = metadata
        self._log = Log(job.target, job.key)
        self._made = made
        self._next = made + 1
        self._ticks = 0
        self._left = 0
        self._held = ExitStack()
        self._picture: ImageSink | None = None

    def __enter__(self) -> Self:
        try:
            if self._log.prepare(self._made):
                self.notes.append("what an earlier run left of it was made otherwise: begun afresh")
        except OSError as error:
            raise self._fault(error) from error
        self.notes += self._losses()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)
        if error is not None:
            return
        made = self._log.made()
        others = [path.name for number, path in numbered(self._job.target).files().items() if number not in made]
        if others:
            self.notes.append(
                f"{len(others)} more pictures of such a name were there before: {others[0]} to {others[-1]}"
            )
        self._log.finish()

    def write(self, frame: Frame, *, height: int | None = None) -> None:
        """Add a frame, or the next strip of one that is `height` rows high in all."""
        if self._picture is None:
            self._left = frame.height if height is None else height
            self._picture = self._held.enter_context(self._begun(frame))
        self._picture.write(frame, height=self._left)
        self._left -= frame.height
        if self._left == 0:
            self._end(self._picture, frame.mark)

    def _begun(self, frame: Frame) -> ImageSink:
        if self._info.first is not None and frame.pts is not None:
            self._next = self._info.first + frame.pts // frame.ticks
        if self._ticks and abs(frame.ticks - self._ticks) * self._info.time_base > Fraction(2, 1000):
            self._note("its frames last unequally long, which pictures cannot say")
        self._ticks = frame.ticks
        return ImageSink(
            numbered(self._job.target).file(self._next),
            format=self._job.format,
            metadata=self._metadata,
            depth=self._options.depth,
            quality=self._options.quality,
        )

    def _end(self, picture: ImageSink, mark: tuple[int, ...]) -> None:
        self._held.close()
        self._picture = None
        for note in picture.notes:
            self._note(note)
        try:
            self.bytes += picture.path.stat().st_size
            self._log.add(self._next, mark)
        except OSError as error:
            raise self._fault(error) from error
        self._next += 1

    def _losses(self) -> Iterator[str]:
        """What pictures do not say of the film."""
        info = self._info
        if info.first is not None:
            return
        beside = f"{' and '.join(info.others)} dropped: pictures have none. " if info.others else ""
        yield f"{beside}--fps {info.rate} makes a film of them again"
        if info.color.hdr:
            yield f"that they are {info.color.hdr} (HDR) has no place in pictures: they look pale elsewhere"
        if info.sample_aspect != 1:
            yield f"pixel aspect {info.sample_aspect} dropped: pixels of pictures are square"

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _fault(self, error: OSError) -> OutputError:
        why = f"{error.strerror}. Make room there, or choose another -o."
        return OutputError(f"{shown(self._job.target)} cannot be written: {why}")
