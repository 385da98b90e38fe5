"""Several workers: a process for each device, and one queue that all of them draw from.

Owns the processes, who gets which picture next, and what becomes of pictures whose process ends. Refuses journals,
locks and printing, which stay with the process that asks.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Lock

from upscale_cli.device import threads as all_threads
from upscale_cli.errors import DeviceLostError, UpscaleError
from upscale_cli.journal import remove_remains
from upscale_cli.pipeline import Event, Job, JobResult
from upscale_cli.worker import AGAIN, Made, Opened, Orders, Task, Worker

LEAVE_SECONDS = 10.0
"""What a process gets to undo its unfinished pictures before it is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process ended before its time."""

    reason: str


def make_on(
    devices: Sequence[str],
    orders: Orders,
    tasks: Sequence[Task],
    *,
    begin: Callable[[Task], None],
    hear: Callable[[Event | Opened | Ended], None],
) -> Generator[Made]:
    """Every picture once, as soon as it is there, by a process for each device; `cpu` twice is two processes.

    `begin` is told of a task before it is handed out; twice, if the first device is lost. `hear` is told what a Worker
    tells, and of processes that ended before their time: the pictures that one held have failed for that reason, and
    the others go on. DeviceLostError when pictures are left and no process is; an UpscaleError of opening a network is
    raised. Left early, as by Ctrl-C, all processes end within LEAVE_SECONDS, and nothing half-made stays.
    """
    crew = _Crew(devices[: len(tasks)], orders, tasks, begin=begin, hear=hear)
    try:
        yield from crew.results()
    finally:
        crew.end()


@dataclass(frozen=True, slots=True)
class _Asking:
    """For a task; `idle` when there is none in hand."""

    idle: bool


@dataclass(slots=True, eq=False)
class _Process:
    """A worker's process as its parent sees it."""

    device: str
    process: BaseProcess
    pipe: Connection
    in_hand: dict[int, Task] = field(default_factory=dict)
    idle: bool = False
    last_words: str = ""

    def answer(self, task: Task | None) -> None:
        with contextlib.suppress(OSError):  # it has died, which the next look at its pipe tells
            self.pipe.send(task)


class _Crew:
    """One call of make_on(): the processes, and the queue that all of them draw from."""

    def __init__(
        self,
        devices: Sequence[str],
        orders: Orders,
        tasks: Sequence[Task],
        *,
        begin: Callable[[Task], None],
        hear: Callable[[Event | Opened | Ended], None],
    ) -> None:
        self.devices = devices
        self.orders = orders
        self.queue = deque(tasks)
        self.begin = begin
        self.hear = hear
        self.alive: list[_Process] = []

    def results(self) -> Iterator[Made]:
        threads = max(1, all_threads() // max(1, self.devices.count("cpu")))
        for device in self.devices:
            self.alive.append(_start(device, self.orders, threads if device == "cpu" else 0))
        fate = ""
        while self.alive and (self.queue or any(worker.in_hand for worker in self.alive)):
            for worker in [worker for worker in self.alive if worker.idle]:
                self._hand_out(worker)
            for pipe in wait([worker.pipe for worker in self.alive]):
                worker = next(worker for worker in self.alive if worker.pipe is pipe)
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    fate = self._bury(worker)
                    self.hear(Ended(fate))
                    for task in worker.in_hand.values():
                        yield Made(task.index, _failed(task.job, f"{fate}. {AGAIN}"), "")
                    continue
                if isinstance(message, Made):
                    del worker.in_hand[message.index]
                    yield message
                else:
                    self._take(worker, message)
        if self.queue:
            raise DeviceLostError(fate)

    def _take(self, worker: _Process, message: object) -> None:
        match message:
            case Event() | Opened():
                self.hear(message)
            case _Asking(idle=True):
                worker.idle = True
            case _Asking():
                # Towards the end nobody takes a picture in advance that another device might begin at once.
                if len(self.queue) >= 2 * len(self.alive):
                    self._hand_out(worker)
                else:
                    worker.answer(None)
            case DeviceLostError():
                worker.last_words = str(message)
                self.queue.extendleft(reversed(worker.in_hand.values()))  # no fault of theirs
                worker.in_hand.clear()
            case UpscaleError():
                raise message
            case _:
                worker.last_words = str(message)

    def _hand_out(self, worker: _Process) -> None:
        if not self.queue:
            return
        task = self.queue.popleft()
        self.begin(task)
        worker.in_hand[task.index] = task
        worker.idle = False
        worker.answer(task)

    def _bury(self, worker: _Process) -> str:
        """How it ended. What it held is not handed on: one of these pictures may have killed it, and the next too."""
        self.alive.remove(worker)
        self._leave([worker])
        code = worker.process.exitcode or 0
        words = worker.last_words or (f"signal {-code}" if code < 0 else f"exit code {code}")
        return f"the worker on {worker.device} ended: {words}"

    def end(self) -> None:
        """Of all processes, whatever they are doing."""
        for worker in self.alive:
            if worker.in_hand or not worker.idle:
                worker.process.terminate()
        self._leave(self.alive)

    def _leave(self, workers: Sequence[_Process]) -> None:
        """Wait for their end, which a closed pipe asks for; clear away what those that were killed left half-made."""
        until = time.monotonic() + LEAVE_SECONDS
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.process.join(max(0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            remove_remains(task.job.target for task in worker.in_hand.values())


def _start(device: str, orders: Orders, threads: int) -> _Process:
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    pipe, far_end = context.Pipe()
    orders = replace(orders, network=replace(orders.network, device=device))
    # A daemon is ended with this process even if nobody gets to say so.
    child = context.Process(target=serve, args=(far_end, orders), name=f"upscale-{device}", daemon=True)
    with _legacy(threads):
        child.start()
    far_end.close()  # only the child's is left, so that its end is heard
    return _Process(device, child, pipe)


@contextlib.contextmanager
def _legacy(threads: int) -> Iterator[None]:
    """What a process started here takes over: deafness to Ctrl-C, which is for its parent, and how many threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    # Blocked, not ignored: what comes now reaches this process afterwards.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        if threads and before is None:
            del os.environ["OMP_NUM_THREADS"]
        elif threads and before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def serve(pipe: Connection, orders: Orders) -> None:
    """A worker at the other end of a pipe: asks for tasks until the pipe is closed. The main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    lock = Lock()  # the thread that reads pictures ahead asks for them itself

    def send(message: object) -> None:
        try:
            with lock:
                pipe.send(message)
        except OSError:
            raise SystemExit from None  # nobody listens any more

    def ask(idle: bool) -> Task | None:
        send(_Asking(idle))
        try:
            return pipe.recv()
        except (EOFError, OSError):
            raise SystemExit from None  # there is no more to do

    try:
        worker = Worker(orders, send)
        while (first := ask(True)) is not None:
            tasks = itertools.chain((first,), iter(partial(ask, False), None))
            with contextlib.closing(worker.make(tasks)) as results:
                for made in results:
                    send(made)
    except UpscaleError as error:
        send(error)
    except Exception as error:  # the parent says it, in a line
        send(f"{type(error).__name__}: {error}")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending: an exit from that would be a traceback


def _exit(*_: object) -> None:
    raise SystemExit


def _failed(job: Job, error: str) -> JobResult:
    return JobResult(
        job.source,
        job.target,
        frames=0,
        seconds=0,
        tile_px=0,
        precision="",
        backend="",
        retries=0,
        notes=(),
        error=error,
    )
