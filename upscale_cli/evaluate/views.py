"""What is looked at, one picture or one frame of a film at a time: LR, the original if there is one, and the motion.

A picture is one view, a film many, of which two are in memory. Refuses models and scores.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upscale_cli.errors import InputError
from upscale_cli.evaluate.pairs import Files, Pair, Pixels, fit_pair, make_pair, read_pair, rgb8
from upscale_cli.media.image import DEFAULT_MAX_PIXELS
from upscale_cli.media.resize import imresize
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.metrics.flicker import warping_error
from upscale_cli.metrics.protocol import NoValueError, Plane, Protocol, luma
from upscale_cli.motion import Motion


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture, or a frame of a film, 8-bit RGB."""

    name: str
    """Of the file."""
    lr: Pixels
    hr: Pixels | None
    size: tuple[int, int]
    """Height and width of what is to be made of lr; hr has it."""
    digest: str
    """Equal for equal pixels under equal names."""
    index: int = 0
    """In its file."""
    last: bool = True
    motion: Motion | None = None
    """To the frame before, where that was asked for, of frames of `size` within the border of the protocol."""
    source_error: float = math.nan
    """The warping error of lr enlarged by bicubic."""


def picture_view(name: str, files: Files, scale: int) -> Iterator[View]:
    """One, as `read_pair` reads it, and with its errors."""
    pair = read_pair(name, files, scale)
    yield View(pair.name, pair.lr, pair.hr, (pair.hr.shape[0], pair.hr.shape[1]), pair.digest())


@dataclass(frozen=True, slots=True)
class Film:
    """A film to score on: its original, LR, or both."""

    hr: Path | None
    lr: Path | None

    @property
    def name(self) -> str:
        """What it is called in reports."""
        path = self.hr or self.lr
        assert path is not None
        return path.name


def film_views(film: Film, scale: int, protocol: Protocol, *, moving: bool) -> Iterator[View]:
    """Frame by frame, with the motion between them if that is wanted.

    InputError where it cannot be read; after the frames there are, where some are missing.
    """
    trail = _Trail(scale, protocol) if moving else None
    for index, (pair, last) in enumerate(_with_last(_pairs(film, scale))):
        lr, hr = pair.lr, None if film.hr is None else pair.hr
        size = lr.shape[0] * scale, lr.shape[1] * scale
        motion, error = trail.step(lr) if trail else (None, math.nan)
        yield View(film.name, lr, hr, size, pair.digest(), index, last, motion, error)


def frames(path: Path) -> Iterator[Pixels]:
    """Of a film, H x W x 3 8-bit RGB, upright. InputError, at the end, for one that is cut off."""
    from upscale_cli.media.video.source import VideoSource

    with VideoSource(path, VideoOptions(), max_pixels=DEFAULT_MAX_PIXELS) as source:
        for frame in source.frames():
            yield rgb8(frame.color)
        if source.missing:
            raise InputError(f"{path.name}: {source.missing}.")


def _pairs(film: Film, scale: int) -> Iterator[Pair]:
    """LR and HR of every frame; where there is no original, LR as both."""
    if film.hr is None:
        assert film.lr is not None
        yield from (Pair(film.name, lr, lr) for lr in frames(film.lr))
    elif film.lr is None:
        yield from (make_pair(film.name, hr, scale) for hr in frames(film.hr))
    else:
        low = frames(film.lr)
        for count, hr in enumerate(frames(film.hr)):
            lr = next(low, None)
            if lr is None:
                raise InputError(f"{film.lr} ends after {count} frames, before {film.name} does.")
            yield fit_pair(film.name, hr, lr, film.lr, scale)
        if next(low, None) is not None:
            raise InputError(f"{film.name} ends before {film.lr} does.")


def _with_last(pairs: Iterator[Pair]) -> Iterator[tuple[Pair, bool]]:
    """Every pair, and whether it is the last; an InputError comes after that."""
    fault: InputError | None = None
    waiting: Pair | None = None
    while True:
        try:
            pair = next(pairs, None)
        except InputError as error:
            pair, fault = None, error
        if waiting is not None:
            yield waiting, pair is None
        if pair is None:
            break
        waiting = pair
    if fault is not None:
        raise fault


class _Trail:
    """What is remembered of a film from frame to frame."""

    def __init__(self, scale: int, protocol: Protocol) -> None:
        self._scale = scale
        self._protocol = protocol
        self._before: tuple[Plane, Plane] | None = None

    def step(self, lr: Pixels) -> tuple[Motion | None, float]:
        """The motion since the last frame, at the size of the output, and the source's own warping error."""
        height, width = lr.shape[0] * self._scale, lr.shape[1] * self._scale
        now = luma(lr), luma(self._protocol.inside(imresize(lr, height, width)))
        before, self._before = self._before, now
        if before is None:
            return None, math.nan
        low = (np.rint(plane).astype(np.uint8) for plane in (before[0], now[0]))
        motion = Motion.between(*low).enlarged(height, width).inside(self._protocol.crop_border)
        try:
            return motion, warping_error(now[1], before[1], motion)
        except NoValueError:
            return motion, math.nan
