"""Jobs through read, enlarge and write, three at a time: one being decoded, one in the network, one being encoded.

A picture goes from the network to its file by strips, so that encoding overlaps inference within one picture too.
Owns the threads, how much may wait between them, and which pictures go through the network together. Refuses paths to
choose, collisions, journals and printing: a job comes with its target, a result goes out.
"""

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from threading import Thread

from upscale_cli.calm import Calm
from upscale_cli.cube import write_cube
from upscale_cli.enlarge import Cost, Effort, Upscaler
from upscale_cli.errors import InputError
from upscale_cli.keyframes import Keyframes
from upscale_cli.lane import Lane, StoppedError
from upscale_cli.media.colorspace import meaning
from upscale_cli.media.files import frames_a_block, made_already, open_sink, open_source
from upscale_cli.media.frame import Frame
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.job import Job, PictureOptions
from upscale_cli.media.metadata import Metadata
from upscale_cli.media.paths import shown
from upscale_cli.media.video.parts import frames_a_part
from upscale_cli.strips import halves
from upscale_cli.work import Event, JobResult, Work

__all__ = ["Cost", "Effort", "Event", "Job", "JobResult", "PictureOptions", "Upscaler", "process"]


def process(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: PictureOptions | None = None,
    *,
    strong: Upscaler | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Generator[JobResult]:
    """Enlarge every picture; one result a job, in the order of the jobs, as soon as it is there. Where
    VideoOptions say so, keyframes of films go through `strong` too.

    A job that fails gives a result with an error and leaves nothing behind; the rest go on. Decoding runs ahead and
    encoding behind in a thread each, `jobs` is iterated by the first. Leaving early, by closing the iterator or by
    Ctrl-C, joins both threads, and no temporary file stays.
    """
    run = _Run(jobs, upscaler, strong, options or PictureOptions(), progress)
    try:
        yield from run.results()
    finally:
        run.stop()


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """One frame on its way, or one strip of it, or, without a frame, the end of its job, or that it was opened."""

    work: Work
    frame: Frame | None = None
    bytes: int = 0
    height: int = 0
    """Of the whole frame."""
    opened: bool = False
    """The job is, and no more: what is to come is known before there is room for it."""


class _Run:
    """One call of process(): a reader thread, the calling thread with the network, a writer thread."""

    def __init__(
        self,
        jobs: Iterable[Job],
        upscaler: Upscaler,
        strong: Upscaler | None,
        options: PictureOptions,
        progress: Callable[[Event], None] | None,
    ) -> None:
        self.jobs = jobs
        self.upscaler = upscaler
        self.strong = strong
        self.options = options
        self.progress = progress or (lambda _event: None)
        self.sources: Lane[_Item] = Lane()
        self.pictures: Lane[_Item] = Lane()
        self.held: deque[_Item | None] = deque()
        """What came from the sources and is not enlarged yet."""
        self.finished: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.threads = [
            Thread(target=self._read, name="upscale-read"),
            Thread(target=self._write, name="upscale-write"),
        ]

    def results(self) -> Iterator[JobResult]:
        for thread in self.threads:
            thread.start()
        while (item := self.held.popleft() if self.held else self.sources.get()) is not None:
            self._enlarge(item)
            del item  # its pixels would stay until the next one comes
            while not self.finished.empty() and (work := self.finished.get()):
                yield self._tell(work)
        self.pictures.put(None)
        while work := self.finished.get():
            yield self._tell(work)
        self.pictures.check()

    def stop(self) -> None:
        """End both threads, whatever they are doing, and wait for them."""
        self.sources.close()
        self.pictures.close()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
        self.upscaler.begin(None)  # with what it was told comes next

    def _tell(self, work: Work) -> JobResult:
        result = work.result()
        self.progress(Event(work.index, 1.0, result))
        return result

    def _enlarge(self, item: _Item) -> None:
        """The calling thread's share: one frame through the network, and on to the writer strip by strip."""
        work, frame = item.work, item.frame
        if item.opened:
            return
        if frame is None:
            self.pictures.put(item)
            return
        if work.error is None:
            work.enlarging.start()
            try:
                self._enlarge_frame(work, frame)
            except Exception as error:
                self.sources.check()  # where the run is over, it is no fault of this picture
                self.pictures.check()
                work.fail(error)
            finally:
                work.enlarging.stop()
        if work.error is not None:
            self.upscaler.begin(None)  # it may be in the middle of it, with pictures behind that went along
        self.sources.release(item.bytes)

    def _enlarge_frame(self, work: Work, frame: Frame) -> None:
        job, info = work.job, work.info
        assert info is not None  # a frame comes after its header
        # Pages of one file may differ in size; each is enlarged as much as the first.
        height = max(1, round(frame.height * job.height / info.height))
        width = max(1, round(frame.width * job.width / info.width))
        if not self.upscaler.expects(frame) and (work.frames % work.part == 0 or not work.in_pixels):
            self._begin(work, film=not info.counted)
        for strip in self._made(work, frame, height, width, info):
            if work.error is not None:  # it cannot be written
                return
            size = _frame_bytes(strip)
            work.enlarging.stop()
            self.pictures.reserve(size)
            self.pictures.put(_Item(work, strip, size, height))
            work.enlarging.start()
        work.effort += (work.keyframes.effort if work.keyframes else Effort()) + self.upscaler.effort
        if job.cube is not None and not work.frames:
            work.cube = self.upscaler.cube
        work.frames += 1
        work.in_pixels += frame.height * frame.width
        work.out_pixels += height * width

    def _begin(self, work: Work, *, film: bool) -> None:
        """The next frame knows nothing of those before."""
        video = self.options.video
        self.upscaler.begin(work.static)
        if film and self.strong and video.keyframe_every:
            work.keyframes = work.keyframes or Keyframes(self.strong, video.keyframe_every)
            work.keyframes.begin(work.static)
        work.calm = Calm(video.temporal) if film and video.temporal else None

    def _made(self, work: Work, frame: Frame, height: int, width: int, info: ImageInfo) -> Iterator[Frame]:
        """The strips of what becomes of a frame."""

        def tick(done: int, total: int) -> None:
            fraction = (work.frames + done / total) / max(info.frames, work.frames + 1)
            self.progress(Event(work.index, fraction, frames=work.frames, bytes=work.bytes))

        depth = 16 if self.options.depth == "16" else None
        if self.upscaler.styled:
            work.meaning = meaning(
                work.metadata.icc,
                cicp=work.metadata.cicp,
                format=info.format,
                channels=frame.channels,
                depth=frame.depth,
                assumed=self.options.assumed,
            )
        space = work.meaning.space
        # A style is shown a picture in another space in its own time.
        coming = self._coming(work, 0 if space else self.upscaler.ahead(frame, height, width))
        strips = self.upscaler.strips(frame, height, width, depth=depth, space=space, progress=tick, coming=coming)
        if work.keyframes:
            strips = work.keyframes.strips(frame, strips, height, width, depth=depth)
        if work.calm:
            strips = work.calm.strips(frame, strips, height, width)
        if self.options.video.split and not info.counted:
            strips = halves(frame.color, strips, height, width)
        return strips

    def _coming(self, work: Work, most: int) -> list[Frame]:
        """As many of the frames after the one at hand. They are waited for: tiles must go through the network in the
        same company whatever the speed of the reader, and of a film wherever an earlier run was killed. The seconds of
        a batch are those of the picture it is waited for, whatever else is in it.
        """
        most = self.sources.widen(most, work.frame_bytes)
        if work.kind is work:
            most = min(most, work.block - 1 - work.frames % work.block)
        work.enlarging.stop()
        coming = list(islice(self._after(work), most))
        work.enlarging.start()
        return coming

    def _after(self, work: Work) -> Iterator[Frame]:
        """The frames that may go with the one at hand: of a film its own, of a still picture the next of its kind. All
        of them hold as much memory as that one, so that there is room for every one that is waited for.
        """
        for place in count():
            if place == len(self.held):
                self.held.append(self.sources.get())
            item = self.held[place]
            if item is None or item.work.kind != work.kind or (work.kind is work and item.frame is None):
                return
            if item.frame is None:
                continue
            if self.upscaler.styled and item.work.colors != work.colors:
                return
            yield item.frame

    def _read(self) -> None:
        """The reader thread: decode every job's frames, no further ahead than the lane has room."""
        try:
            for index, job in enumerate(self.jobs):
                work = Work(index, job)
                try:
                    self._read_job(work)
                except StoppedError:
                    raise
                except Exception as error:
                    work.fail(error)
                self.sources.put(_Item(work))
            self.sources.put(None)
        except StoppedError:
            return
        except BaseException as error:  # of the iterable of jobs: the calling thread raises it
            self.sources.close(error)

    def _read_job(self, work: Work) -> None:
        options = self.options
        work.reading.start()
        reached = made_already(work.job, options.video)
        with open_source(work.job.source, options, reached) as source:
            info = work.info = source.info
            size = work.frame_bytes = info.height * info.width * (info.channels + info.alpha) * info.depth // 8
            frames, found = source.frames(), 0
            work.frames = reached.frames
            if not info.counted:
                work.part = frames_a_part(work.job.height, work.job.width, options.video.part_frames)
                work.block = frames_a_block(work.job, options.video)
                work.static = options.video.skip_static
            elif info.animated:
                work.part = work.block = info.frames
                work.static = 0.0
            self.sources.put(_Item(work, opened=True))
            # By the header's count: asking for one more would keep the source and its pixels until there is room.
            while work.error is None and (found < info.frames or not info.counted):
                work.reading.stop()
                self.sources.reserve(size)
                work.reading.start()
                try:
                    frame = next(frames, None)
                    if frame is None and info.counted:
                        raise InputError(
                            f"{shown(work.job.source)}: holds {found} of the {info.frames} pictures it promises."
                        )
                    # Only now: decoding may have converted the colours, and then the profile is another.
                    work.metadata = source.metadata if options.keep_metadata else _bare(source.metadata)
                except BaseException:
                    self.sources.release(size)  # or the place would be taken for ever
                    raise
                if frame is None:
                    self.sources.release(size)
                    break
                found += 1
                self.sources.put(_Item(work, frame, size))
                del frame
            work.source_notes = tuple(source.notes)
            work.missing = source.missing
        work.reading.stop()

    def _write(self) -> None:
        """The writer thread: encode every job's strips into one sink; a job that failed has its sink undone."""
        try:
            while (item := self.pictures.get()) is not None:
                work, strips = item.work, self._strips(item)
                del item
                try:
                    if work.error is None:
                        self._write_job(work, strips)
                except StoppedError:
                    raise
                except Exception as error:
                    work.fail(error)
                for _ in strips:  # what a failed sink did not take
                    pass
                self.finished.put(work)
        except StoppedError:
            pass
        except BaseException as error:
            self.pictures.close(error)
        finally:
            self.finished.put(None)

    def _strips(self, item: _Item | None) -> Iterator[tuple[Frame, int]]:
        """The strips of one job up to its end, and the height of what each belongs to; each gives its place back when
        the next is asked for.
        """
        while item is not None and item.frame is not None:
            yield item.frame, item.height
            self.pictures.release(item.bytes)
            clock = item.work.writing
            clock.stop()
            item = self.pictures.get()
            clock.start()

    def _write_job(self, work: Work, strips: Iterator[tuple[Frame, int]]) -> None:
        job, options = work.job, self.options
        work.writing.start()
        assert work.info is not None  # a job that could not be opened has failed before it comes here
        with open_sink(job, options, metadata=work.metadata, info=work.info) as sink:
            for strip, height in strips:
                sink.write(strip, height=height)
                work.bytes = sink.bytes
            if work.error is not None:
                raise work.error  # it failed further up: the sink must not take its final name
        if job.cube is not None and work.cube is not None:
            write_cube(job.cube, work.cube, title=job.source.stem)
        work.writing.stop()
        work.sink_notes = tuple(sink.notes)


def _frame_bytes(frame: Frame) -> int:
    return frame.color.nbytes + (0 if frame.alpha is None else frame.alpha.nbytes)


def _bare(metadata: Metadata) -> Metadata:
    """What a picture needs to look the same, and nothing of who took it, where or when."""
    return Metadata(icc=metadata.icc, loop=metadata.loop, cicp=metadata.cicp)
