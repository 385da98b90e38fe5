"""One picture to learn from: read, its low resolution read or made, sizes made to fit; or refused with a reason."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from upscale_cli.errors import InputError, UsageError
from upscale_cli.evaluate import Pair, Pixels, centred, fit_pair, read_rgb8, read_srgb8
from upscale_cli.media.resize import imresize
from upscale_cli.train.config import TrainConfig
from upscale_cli.train.data.degrade import Degradation, degrade, sharpen
from upscale_cli.train.data.layouts import Item


@dataclass(frozen=True, slots=True)
class Picture:
    """H x W x 3 8-bit RGB; `lr` as the network takes it, or None where it is made of each patch anew."""

    name: str
    hr: Pixels
    lr: Pixels | None


@dataclass(frozen=True, slots=True)
class Making:
    """What becomes of a picture."""

    scale: int
    """HR to what the network takes."""
    preupsample: int
    """What the network takes to what LR is made or read as."""
    degradation: Degradation
    sharpen: bool
    patch_px: int
    """What a picture must hold at least, as the network takes it."""
    matched: bool = False
    """Pairs of one photograph developed twice: cut about their centres to a common size, and brought to sRGB."""
    photo_px: int = 0
    """Longer side that pictures are scaled to, where they are larger; 0 scales none."""
    draws: int = 1
    """How many LR are made of each picture."""
    seed: int = 0
    teacher: str = ""
    """Whose pictures of the whole LR the targets are, by name; `retouch` makes them."""
    retouch: Callable[[Pixels], Pixels] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, config: TrainConfig, scale: int, *, matched: bool = False) -> "Making":
        """What the settings ask of a network of this scale."""
        kind = "bicubic" if config.degradation == "auto" else config.degradation
        return cls(
            scale,
            config.preupsample,
            kind,
            config.sharpen,
            1 if config.whole else config.patch_px,
            matched,
            photo_px=config.photo_px,
            draws=config.draws,
            seed=config.seed,
            teacher=config.teacher if config.teacher_makes_targets else "",
        )

    @property
    def factor(self) -> int:
        """HR to LR."""
        return self.scale * self.preupsample

    @property
    def fixed(self) -> bool:
        """Whether LR of a picture is the same in every patch, so that it can be made once, of the whole."""
        return self.degradation in ("bicubic", "unprocessed")

    def check(self) -> None:
        """UsageError if LR made of HR would be HR."""
        if self.factor == 1 and self.degradation == "bicubic":
            raise UsageError(
                "A network of scale 1 learns nothing from pictures alone: give it pairs, or set preupsample "
                "(--set preupsample=4) or a degradation (--set degradation=unprocessed)."
            )

    def low(self, hr: Pixels, random: np.random.Generator) -> Pixels:
        """The whole of a picture as the network takes it; sides are multiples of `factor`."""
        return enlarge(degrade(hr, self.factor, self.degradation, random), self.preupsample)

    def trimmed(self, hr: Pixels) -> Pixels:
        """Cut from the top left to multiples of `factor`."""
        height, width = (side // self.factor * self.factor for side in hr.shape[:2])
        return hr[:height, :width]

    def pair(self, picture: Picture, number: int) -> Pair:
        """To validate on; a random degradation is drawn from `number`."""
        if picture.lr is not None:
            return Pair(picture.name, picture.hr, picture.lr)
        lr = self.low(picture.hr, np.random.default_rng((number, 1)))
        return Pair(picture.name, self.target(picture.hr, lr), lr)

    def target(self, hr: Pixels, lr: Pixels) -> Pixels:
        """What is to be made of `lr`: the teacher's picture, else the photograph itself."""
        return hr if self.retouch is None else self.retouch(lr)


def enlarge(lr: Pixels, factor: int) -> Pixels:
    """By bicubic, as MATLAB does it."""
    return imresize(lr, lr.shape[0] * factor, lr.shape[1] * factor) if factor > 1 else lr


def scaled(photo: Pixels, longest_px: int) -> Pixels:
    """Made so small, by means of areas, that the longer side has `longest_px`; as it is where that is 0 or larger."""
    height, width = photo.shape[:2]
    if not 0 < longest_px < max(height, width):
        return photo
    factor = longest_px / max(height, width)
    return squeezed(photo, max(1, round(height * factor)), max(1, round(width * factor)))


def squeezed(photo: Pixels, height: int, width: int) -> Pixels:
    """To this size, which may be of another shape, by means of areas."""
    if photo.shape[:2] == (height, width):
        return photo
    return cv2.resize(np.ascontiguousarray(photo), (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def read_pictures(item: Item, making: Making, number: int) -> list[Picture]:
    """To train on: one, or as many as there are draws. `number` is what they are drawn from.

    InputError where it cannot be read, does not fit its LR, or is smaller than a patch.
    """
    picture = _read(item, making, making.patch_px * making.scale)
    if making.sharpen:
        picture = replace(picture, hr=sharpen(picture.hr))
    if picture.lr is not None or not making.fixed or (making.factor == 1 and making.degradation == "bicubic"):
        return [picture]
    drawn = [making.low(picture.hr, np.random.default_rng((making.seed, number, n))) for n in range(making.draws)]
    return [Picture(picture.name, making.target(picture.hr, lr), lr) for lr in drawn]


def read_pair(item: Item, making: Making, number: int) -> Pair:
    """To validate on, whole and never sharpened."""
    return making.pair(_read(item, making, making.factor), number)


def _read(item: Item, making: Making, least: int) -> Picture:
    """`least` is the smallest side of HR that is of use."""
    hr = (read_srgb8 if making.matched else read_rgb8)(item.hr)
    if item.lr is None:
        picture = Picture(item.hr.name, making.trimmed(scaled(hr, making.photo_px)), None)
    else:
        picture = _paired(item, hr, making)
    if min(picture.hr.shape[:2]) < least:
        size = f"{hr.shape[1]} x {hr.shape[0]}"
        raise InputError(f"{picture.name} is {size}: too small, {least} x {least} pixels are needed")
    return picture


def _paired(item: Item, hr: Pixels, making: Making) -> Picture:
    assert item.lr is not None
    name, lr = item.hr.name, (read_srgb8 if making.matched else read_rgb8)(item.lr)
    if making.matched:
        hr, lr = centred(hr, lr, name)
    if making.scale == 1 and lr.shape == hr.shape:
        return Picture(name, scaled(hr, making.photo_px), scaled(lr, making.photo_px))
    pair = fit_pair(name, hr, lr, item.lr, making.factor)
    return Picture(name, pair.hr, enlarge(pair.lr, making.preupsample))
