"""The way from one thread to the next: who is let in, who waits, and whose time it is."""

import threading
import time

import pytest
from photo_jobs import PATIENCE_S, until

from upscale_cli.lane import Clock, Lane, StoppedError


def test_a_lane_lets_a_frame_in_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", 100)
    lane: Lane[str] = Lane()
    entered: list[int] = []

    def enter() -> None:
        for size in (500, 60, 60, 30, 5):
            lane.reserve(size)
            entered.append(size)

    thread = threading.Thread(target=enter)
    thread.start()
    # a frame beyond the limit goes alone; then 60, whose neighbour must wait; then 60 and 30, which fill the two places
    for size, inside in ((500, 1), (60, 2), (60, 4)):
        until(lambda inside=inside: len(entered) == inside, "a frame that fits is kept waiting")
        time.sleep(0.02)
        assert len(entered) == inside
        lane.release(size)
    thread.join(PATIENCE_S)
    assert entered == [500, 60, 60, 30, 5]
    lane.close()
    with pytest.raises(StoppedError):
        lane.reserve(1)


def test_seconds_leave_out_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 13.0, 100.0, 104.0])
    monkeypatch.setattr("upscale_cli.lane.time.perf_counter", lambda: next(now))
    clock = Clock()
    for _ in range(2):
        clock.start()
        clock.stop()
        clock.stop()
    assert clock.seconds == 7


def test_a_lane_lets_in_as_many_more_as_are_kept_on_purpose_while_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upscale_cli.lane.WAITING_BYTES", 100)
    lane: Lane[str] = Lane()
    assert [lane.widen(*asked) for asked in ((3, 10), (30, 10), (3, 30), (3, 50), (3, 500), (0, 10), (2, 0))] == [
        *(3, 8, 1, 0, 0, 0),
        2,
    ]
    entered: list[int] = []

    def enter() -> None:
        for size in (10,) * 5:
            lane.reserve(size)
            entered.append(size)

    thread = threading.Thread(target=enter)
    lane.widen(0, 10)
    thread.start()
    until(lambda: len(entered) == 2, "there are two places")
    time.sleep(0.02)
    assert len(entered) == 2
    lane.widen(3, 10)
    thread.join(PATIENCE_S)
    assert len(entered) == 5


def test_a_lane_whose_lock_an_interrupt_left_taken_is_closed_for_the_other_thread_too() -> None:
    """Ctrl-C between taking the lock and the block that gives it back, as happens where two threads want it."""
    lane: Lane[str] = Lane()
    ended: list[StoppedError] = []

    def wait() -> None:
        try:
            lane.get()
        except StoppedError as error:
            ended.append(error)

    lane._changed.acquire()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    lane.close()
    thread.join(PATIENCE_S)
    assert len(ended) == 1
