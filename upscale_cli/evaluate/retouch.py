"""Photographs before and after a person's retouching, and how papers score what networks make of them.

Owns names of such pairs, the size that each protocol scores at, and its metrics. What all have in common: 8-bit sRGB
(profiles applied), no border cut, the mean over pictures. What they cannot have: the input renderings of a photo
editor, and the papers' own lists of test pictures; scores compare only on the same files.

`dpe`: Chen et al., Deep Photo Enhancer, CVPR 2018: the longer side 512 pixels, PSNR and SSIM. Which SSIM is not said;
ours is SSIM-RGB. `3dlut`: Zeng et al., TPAMI 2020, as its average_psnr_ssim.m: the shorter side 480 pixels, PSNR of
all values, SSIM by the ssim.m beside it, difference in CIE L*a*b*. AdaInt (CVPR 2022) takes its scores so too. `full`:
ours: full size, PSNR, SSIM-RGB, CIEDE2000. `upe`: Wang et al., Underexposed Photo Enhancement, CVPR 2019: full size,
PSNR as its psnr_rgb.m, of all values (errata; a first version took the mean of three), SSIM by Wang's ssim.m, both as
the first author answers in the program's issues 24 and 68; that it was given colours and not grey is our reading.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from upscale_cli.errors import InputError, UsageError
from upscale_cli.evaluate.listing import is_table, pictures
from upscale_cli.evaluate.pairs import Files, Pair, Pixels, by_role, centred, read_srgb8
from upscale_cli.evaluate.views import View
from upscale_cli.media.paths import picture_files, shown


@dataclass(frozen=True, slots=True)
class RetouchProtocol:
    """How pairs are scored."""

    side: Literal["longer", "shorter", ""]
    px: int
    """What that side is made, of larger pictures; smaller ones stay as they are."""
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        if not self.side:
            return "pairs at full size"
        return f"pairs made smaller, by means of areas, until the {self.side} side has {self.px} px"

    def fit(self, photo: Pixels) -> Pixels:
        """The photograph at the size that is scored."""
        height, width = photo.shape[:2]
        side = {"longer": max(height, width), "shorter": min(height, width), "": 0}[self.side]
        if side <= self.px:
            return photo
        size = (max(1, round(width * self.px / side)), max(1, round(height * self.px / side)))
        return cv2.resize(np.ascontiguousarray(photo), size, interpolation=cv2.INTER_AREA).astype(np.uint8)


PROTOCOLS: Mapping[str, RetouchProtocol] = {
    "dpe": RetouchProtocol("longer", 512, ("psnr_rgb", "ssim_rgb")),
    "upe": RetouchProtocol("", 0, ("psnr_rgb", "ssim_wang")),
    "3dlut": RetouchProtocol("shorter", 480, ("psnr_rgb", "ssim_wang", "delta_e76")),
    "full": RetouchProtocol("", 0, ("psnr_rgb", "ssim_rgb", "delta_e")),
}


def retouch_protocol(name: str) -> RetouchProtocol:
    """UsageError for one that is not there."""
    if name not in PROTOCOLS:
        raise UsageError(f"There is no --protocol {name}. Choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def retouched(data: Path, lr: Path | None, expert: str) -> dict[str, Files]:
    """By name, a retouched photograph and the one before.

    `lr` holds those of the same names, a CSV names both, or they lie side by side. UsageError where there are none.
    """
    if lr or is_table(data):
        found = pictures(data, lr, 1)
    else:
        sources = by_role(picture_files(data), expert)
        found = {target.name: Files(target, source, paired=True) for target, source in sources.items()}
    if not any(files.paired for files in found.values()):
        raise UsageError(
            f"{shown(data)} holds no pairs named a0001_input and a0001_expert{expert}. Give the retouched ones as "
            "--data and the others, of the same names, as --lr."
        )
    return found


def retouch_view(name: str, files: Files, protocol: RetouchProtocol) -> Iterator[View]:
    """One pair, cut about its middle to a common size. InputError where either cannot be read, or they do not fit."""
    if files.lr is None:
        raise InputError(f"{name} has no partner of the same name.")
    hr, lr = (protocol.fit(each) for each in centred(read_srgb8(files.hr), read_srgb8(files.lr), name))
    yield View(name, lr, hr, (hr.shape[0], hr.shape[1]), Pair(name, hr, lr).digest())
