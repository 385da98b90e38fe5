"""What a network made of a validation picture: LR | SR | HR side by side, and enlarged where it is farthest off."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from upscale_cli.media.paths import shown
from upscale_cli.render.canvas import FONT, INK
from upscale_cli.render.scores import named

if TYPE_CHECKING:
    from upscale_cli.train.validation import Sample

Pixels = npt.NDArray[np.uint8]

SIDE, GAP, WORDS = 400, 12, 26
"""Pixels of a panel's width, between two of them, and of the line of words above."""
ZOOM_PX = 64
"""HR pixels a side of the crop."""
SHOWN = ("psnr_y", "ssim_y")
"""Scores beside a picture, where they were taken."""
_MARK = (238, 51, 119)


def draw_triptych(sample: "Sample") -> Image.Image:
    """Three pictures with their names, and below them the same cut of each, pixel for pixel."""
    height, width = sample.hr.shape[:2]
    lr = np.asarray(Image.fromarray(sample.lr).resize((width, height), Image.Resampling.NEAREST))
    crop = min(ZOOM_PX, height, width)
    top, left = farthest_off(sample.sr, sample.hr, crop)
    small = max(1, round(SIDE * height / width))
    image = Image.new("RGB", (3 * SIDE + 4 * GAP, small + SIDE + 2 * GAP + 2 * WORDS), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)
    names = (
        f"LR {sample.lr.shape[1]} x {sample.lr.shape[0]}",
        f"SR {named({name: sample.scores[name] for name in SHOWN if name in sample.scores})}",
        f"HR {shown(sample.name)}"[:48],
    )
    for column, (name, pixels) in enumerate(zip(names, (lr, sample.sr, sample.hr), strict=True)):
        x = GAP + column * (SIDE + GAP)
        draw.text((x, WORDS // 2), name, fill=INK, font=font, anchor="lm")
        image.paste(Image.fromarray(pixels).resize((SIDE, small), Image.Resampling.LANCZOS), (x, WORDS))
        mark = [value * SIDE / width for value in (left, top, left + crop, top + crop)]
        draw.rectangle((x + mark[0], WORDS + mark[1], x + mark[2], WORDS + mark[3]), outline=_MARK, width=2)
        cut = Image.fromarray(pixels[top : top + crop, left : left + crop])
        image.paste(cut.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, small + 2 * WORDS + GAP))
    words = f"{crop} x {crop} pixels where SR is farthest from HR"
    draw.text((GAP, small + WORDS * 3 // 2 + GAP), words, fill=_MARK, font=font, anchor="lm")
    return image


def farthest_off(sr: Pixels, hr: Pixels, side: int) -> tuple[int, int]:
    """Top and left of the square in which two pictures differ most, in the mean."""
    error = np.abs(sr.astype(np.int16) - hr).mean(axis=2)
    means = cv2.boxFilter(error, cv2.CV_64F, (side, side), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    means = means[: error.shape[0] - side + 1, : error.shape[1] - side + 1]
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    return int(top), int(left)
