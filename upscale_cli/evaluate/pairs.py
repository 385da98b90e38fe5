"""What is scored on: an HR image and the LR image that belongs to it, made here or found by its name.

Owns the names of pairs and how LR is made. Refuses models and scores.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscale_cli.errors import InputError
from upscale_cli.media.colorspace import srgb8
from upscale_cli.media.files import open_picture
from upscale_cli.media.job import PictureOptions
from upscale_cli.media.paths import picture_files
from upscale_cli.media.resize import imresize

Pixels = npt.NDArray[np.uint8]
IMRESIZE = "HR cut to a multiple of the scale from the top left, shrunk by bicubic as MATLAB's imresize"


@dataclass(frozen=True, slots=True)
class Pair:
    """An HR image and the LR image a model sees, 8-bit RGB; hr is scale x lr in size."""

    name: str
    hr: Pixels
    lr: Pixels

    def digest(self) -> str:
        """Equal for equal pixels under equal names, in whatever format they are stored."""
        digest = hashlib.sha256(f"{Path(self.name).stem} {self.hr.shape} {self.lr.shape}".encode(errors="replace"))
        for pixels in (self.hr, self.lr):
            digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Files:
    """Where one picture to score on is, and the low resolution that belongs to it."""

    hr: Path
    lr: Path | None = None
    """None, though `paired`, where there is none of its name."""
    paired: bool = False
    """LR is read; without it LR is made of HR."""


def pair_by_name(files: Iterable[Path], folder: Path, scale: int) -> dict[Path, Path | None]:
    """HR file -> LR file of the same stem, or of that stem with the scale behind it (`0801x4`, `baby_x4`), or None."""
    found = {path.stem: path for path in picture_files(folder)}
    return {path: next((found[name] for name in _names(path, scale) if name in found), None) for path in files}


def _names(path: Path, scale: int) -> tuple[str, ...]:
    stem = path.stem
    low = f"{stem.removesuffix('HR')}LR" if stem.endswith("HR") else stem
    return stem, f"{stem}x{scale}", f"{stem}_x{scale}", low, f"{stem}_LRBI_x{scale}"


def by_role(files: Iterable[Path], expert: str) -> dict[Path, Path | None]:
    """`a0001_expertC` -> `a0001_input` beside it, or None; of one expert."""
    found = {path.stem: path for path in files}
    role = f"_expert{expert}"
    return {path: found.get(f"{stem.removesuffix(role)}_input") for stem, path in found.items() if stem.endswith(role)}


def read_pair(name: str, files: Files, scale: int) -> Pair:
    """Decode, and make the low resolution where none belongs to it.

    InputError where one cannot be read, is not there, or does not fit the other.
    """
    hr = read_rgb8(files.hr)
    if not files.paired:
        return make_pair(name, hr, scale)
    if files.lr is None:
        raise InputError(f"{name} has no partner: expected one named {' or '.join(_names(files.hr, scale)[:3])}.")
    return fit_pair(name, hr, read_rgb8(files.lr), files.lr, scale)


def fit_pair(name: str, hr: Pixels, lr: Pixels, partner: Path, scale: int) -> Pair:
    """HR cut to `scale` times LR from the top left. InputError where that is not what a division leaves over."""
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
        raise InputError(
            f"{partner} is {lr.shape[1]} x {lr.shape[0]}; times {scale} that does not fit {name}, "
            f"which is {hr.shape[1]} x {hr.shape[0]}. Give the --scale the images were made with."
        )
    return Pair(name, hr[:height, :width], lr)


def make_pair(name: str, hr: Pixels, scale: int) -> Pair:
    """Cut an image to a multiple of `scale` from the top left and shrink it as MATLAB's imresize does."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if not height or not width:
        raise InputError(f"{name} is {hr.shape[1]} x {hr.shape[0]}: too small for x{scale}.")
    hr = hr[: height * scale, : width * scale]
    return Pair(name, hr, imresize(hr, height, width))


def read_rgb8(path: Path) -> Pixels:
    """The first frame as H x W x 3 8-bit RGB, as scores are taken on; alpha is left out, grey is repeated."""
    with open_picture(path, PictureOptions()) as source:
        color = next(iter(source.frames())).color
    return rgb8(color)


def rgb8(color: np.ndarray) -> Pixels:
    """H x W x 1 or 3 of 8 or 16 bits as H x W x 3 of 8."""
    if color.dtype == np.uint16:
        color = np.rint(color / 257).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(color, (*color.shape[:2], 3)))


def centred(hr: Pixels, lr: Pixels, name: str) -> tuple[Pixels, Pixels]:
    """The middle that both have: raw developers disagree on a few rows at the edges."""
    sides = [min(pair) for pair in zip(hr.shape[:2], lr.shape[:2], strict=True)]
    if any(side < 0.9 * max(pair) for side, *pair in zip(sides, hr.shape, lr.shape, strict=False)):
        raise InputError(f"{name} is {hr.shape[1]} x {hr.shape[0]}, its input {lr.shape[1]} x {lr.shape[0]}")
    return _middle(hr, *sides), _middle(lr, *sides)


def _middle(image: Pixels, height: int, width: int) -> Pixels:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def read_srgb8(path: Path) -> Pixels:
    """As read_rgb8, with an embedded colour profile applied: experts' files are in ProPhoto RGB, inputs in sRGB."""
    with open_picture(path, PictureOptions()) as source:
        color = next(iter(source.frames())).color
        icc = source.metadata.icc
    try:
        return rgb8(srgb8(color, icc))
    except ValueError as error:
        raise InputError(f"{path.name}: its colour profile cannot be applied ({error})") from error
