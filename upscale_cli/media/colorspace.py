"""What a picture's numbers mean: its colours as those of sRGB, beyond [0, 1] where sRGB ends, and back.

By its profile, or by what pictures without one are taken for. The curve of sRGB (IEC 61966-2-1) goes on beyond 1, and
below 0 as it does above. Opens no picture.
"""

import functools
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from upscale_cli.errors import InputError, UsageError
from upscale_cli.media.formats import DEEP, EXTENSIONS
from upscale_cli.media.icc import Curve, Values, profile_name, read_profile
from upscale_cli.media.metadata import icc_fault, srgb_profile
from upscale_cli.media.pixels import to_depth
from upscale_cli.media.png_color import cicp_name

Numbers = npt.NDArray[np.uint8 | np.uint16]
Floats = npt.NDArray[np.float32]

_SRGB_XYZ = np.array(  # columns red, green and blue, adapted to D50 by Bradford
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
_LIGHT_KNEE, _KNEE = np.array([[0.0031308], [0.04045]], np.float32)
_SAME = 1 / 255
"""A space whose colours are those of sRGB within this is sRGB: profiles of it differ in how they round."""
_STEPS = 1 << 20  # of the root of light, by which 16-bit numbers are found within one
_BAND_SAMPLES = 1 << 16  # turned at a time: its floats stay in the processor's cache
_LARGEST_PROFILE = 1 << 24


class Space:
    """What the numbers of a picture mean: curves to light, and a matrix to the light of sRGB's red, green and blue."""

    def __init__(self, curves: tuple[Curve, ...], matrix: Values | None = None) -> None:
        """One curve for every channel, or one for all; no `matrix` where the primaries are those of sRGB, or grey."""
        self._curves = curves if any(curve is not curves[0] for curve in curves) else curves[:1]
        self._matrix = None if matrix is None else matrix.astype(np.float32)
        self._back = None if matrix is None else np.linalg.inv(matrix).astype(np.float32)
        self._tables: dict[tuple[str, int], list[np.ndarray]] = {}

    @functools.cached_property
    def is_srgb(self) -> bool:
        """Whether its colours are those of sRGB, within rounding."""
        ramp = np.linspace(0, 255, 9).astype(np.uint8)
        colors = np.stack(np.meshgrid(ramp, ramp, ramp), -1).reshape(1, -1, 3)
        greys = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
        both = np.concatenate([colors, greys], 1)
        return bool(np.abs(self.to_srgb(both) - both / 255).max() <= _SAME)

    @property
    def grey(self) -> "Space":
        """For pictures of one channel: their greys, by the curve of green."""
        return Space(self._curves[len(self._curves) // 2 :][:1])

    def to_srgb(self, numbers: Numbers) -> Floats:
        """H x W x C to the same of sRGB's own values: in [0, 1] where sRGB has that colour, else beyond."""
        made = np.empty(numbers.shape, np.float32)
        tables = self._made("light", numbers.dtype.itemsize)
        for rows in _bands(numbers.shape):
            light = _looked_up(tables, numbers[rows])
            made[rows] = encoded(light if self._matrix is None else _times(light, self._matrix))
        return made

    def from_srgb(self, colors: Floats, dtype: np.dtype[np.uint8 | np.uint16]) -> Numbers:
        """The way back, rounded to the nearest; what this space has no numbers for is cut off."""
        made = np.empty(colors.shape, dtype)
        tables = self._made("numbers", dtype.itemsize)
        for rows in _bands(colors.shape):
            light = decoded(colors[rows])
            light = light if self._back is None else _times(light, self._back)
            steps = np.sqrt(np.clip(light, 0, 1, out=light), out=light) * np.float32(_STEPS) + np.float32(0.5)
            made[rows] = _looked_up(tables, steps.astype(np.int32))
        return made

    def _made(self, kind: Literal["light", "numbers"], itemsize: int) -> list[np.ndarray]:
        """A table for every curve: light by number, or numbers by the root of light."""
        if (kind, itemsize) not in self._tables:
            make = _light_table if kind == "light" else _number_table
            self._tables[kind, itemsize] = [make(curve, 256**itemsize) for curve in self._curves]
        return self._tables[kind, itemsize]


def _light_table(curve: Curve, count: int) -> np.ndarray:
    return curve(np.linspace(0, 1, count)).astype(np.float32)


def _number_table(curve: Curve, count: int) -> np.ndarray:
    numbers = np.linspace(0, 1, 65536)
    found = np.interp(np.linspace(0, 1, _STEPS + 1) ** 2, curve(numbers), numbers)
    return np.rint(found * (count - 1)).astype(np.uint8 if count == 256 else np.uint16)


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, _BAND_SAMPLES // max(1, shape[1] * shape[2]))
    return (slice(top, top + step) for top in range(0, shape[0], step))


def _looked_up(tables: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    if len(tables) == 1:
        return np.take(tables[0], places)
    return np.stack([np.take(table, places[..., channel]) for channel, table in enumerate(tables)], axis=-1)


def _times(colors: Floats, matrix: Floats) -> Floats:
    return cast(Floats, cv2.transform(colors, matrix))


def encoded(light: Floats) -> Floats:
    """Light as the values of sRGB, beyond [0, 1] too; black is 0."""
    size = np.abs(light)
    # The straight piece and what the curve adds behind the knee: nothing has to be chosen, which is faster.
    made = _root(np.maximum(size, _LIGHT_KNEE)) - _root(_LIGHT_KNEE)
    made += np.minimum(size, _LIGHT_KNEE) * np.float32(12.92)
    return np.copysign(made, light)


def decoded(values: Floats) -> Floats:
    """The way back."""
    size = np.abs(values)
    light = _power(np.maximum(size, _KNEE)) - _power(_KNEE)
    light += np.minimum(size, _KNEE) * np.float32(1 / 12.92)
    return np.copysign(light, values)


def _root(light: Floats) -> Floats:
    return cast(Floats, cv2.pow(light, 1 / 2.4)).reshape(light.shape) * np.float32(1.055)


def _power(values: Floats) -> Floats:
    base = (values + np.float32(0.055)) * np.float32(1 / 1.055)
    return cast(Floats, cv2.pow(base, 2.4)).reshape(values.shape)


@functools.lru_cache(maxsize=16)
def space_of(icc: bytes) -> Space:
    """What a profile says. ValueError with the reason for one that is no matrix profile."""
    profile = read_profile(icc)
    if profile.colorants is None:
        return Space(profile.curves)
    return Space(profile.curves, np.linalg.inv(_SRGB_XYZ) @ profile.colorants)


_LINEAR = Space((lambda numbers: numbers,))


@dataclass(frozen=True, slots=True)
class Assumed:
    """What pictures that carry no profile are taken for."""

    name: str = "srgb"
    """`srgb`, `linear` (light as it is, by sRGB's primaries), or the name of a file."""
    icc: bytes | None = None
    """Of that file."""

    @classmethod
    def of(cls, words: str) -> "Assumed":
        """InputError for a file that cannot be read, UsageError for one that is no matrix profile."""
        if words in ("srgb", "linear"):
            return cls(words)
        try:
            with Path(words).open("rb") as file:
                icc = file.read(_LARGEST_PROFILE)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--assume-profile {words}: {reason}. Give srgb, linear, or an ICC file.") from error
        try:
            if fault := icc_fault(icc):
                raise ValueError(fault)
            space_of(icc)
        except ValueError as error:
            raise UsageError(f"--assume-profile {words}: {error}. Give a profile of matrix and curves.") from error
        return cls(words, icc)

    @property
    def identity(self) -> str:
        """What tells it from any other."""
        return self.name if self.icc is None else hashlib.sha256(self.icc).hexdigest()

    @property
    def space(self) -> Space | None:
        """None for sRGB."""
        if self.icc is not None:
            return _foreign(self.icc)
        return _LINEAR if self.name == "linear" else None


AS_SRGB = Assumed()


class Meaning(NamedTuple):
    """What the numbers of one picture stand for."""

    space: Space | None = None
    """None for sRGB, or what is taken for it."""
    note: str = ""
    """Where the user should know of it."""


def meaning(
    icc: bytes | None, *, cicp: bytes | None = None, format: str, channels: int, depth: int, assumed: Assumed
) -> Meaning:
    """Of a picture with this profile or none, of a format by Pillow's name, before a style is applied.

    Without a profile, what is developed from RAW and films are sRGB, as is what by its `cicp` no profile holds; all
    else is what is `assumed`.
    """
    note = ""
    if cicp is not None:
        instead = "sRGB" if icc is None else f"those of its profile {profile_name(icc)!r}"
        note = f"its cICP chunk ({cicp_name(cicp)}) says what no profile holds: its colours are taken for {instead}"
    if icc is not None:
        try:
            space = _foreign(icc)
        except ValueError as error:
            reason = f"is no matrix profile ({error}): its colours are taken for sRGB"
            return Meaning(note=f"its profile {profile_name(icc)!r} {reason}")
    elif cicp is not None or format not in EXTENSIONS.values():
        return Meaning(note=note)
    else:
        space = assumed.space
        if depth == 16 and format in DEEP and assumed == AS_SRGB:
            note = (
                "16 bits without a profile, taken for sRGB; if they are linear light, --assume-profile linear says so"
            )
    return Meaning(space.grey if space and channels == 1 else space, note)


def _foreign(icc: bytes) -> Space | None:
    space = space_of(icc)
    return None if space.is_srgb else space


def srgb8(color: Numbers, icc: bytes | None, assumed: Assumed = AS_SRGB) -> npt.NDArray[np.uint8]:
    """H x W x C of any depth as 8-bit sRGB, cut off where sRGB ends, rounded once.

    A profile that is none of matrix and curves is applied by LittleCMS, at 8 bits. ValueError where it cannot be.
    """
    grey = color.shape[2] == 1
    try:
        space = assumed.space if icc is None else _foreign(icc)
    except ValueError:
        return to_depth(color, 8) if grey else _by_littlecms(color, icc or b"")
    if space is None:
        return to_depth(color, 8)
    space, made = space.grey if grey else space, np.empty(color.shape, np.uint8)
    for rows in _bands(color.shape):
        made[rows] = np.rint(np.clip(space.to_srgb(color[rows]), 0, 1) * np.float32(255))
    return made


def _by_littlecms(color: Numbers, icc: bytes) -> npt.NDArray[np.uint8]:
    try:
        source, target = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (icc, srgb_profile()))
        turned = ImageCms.profileToProfile(Image.fromarray(to_depth(color, 8)), source, target, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(str(error)) from error
    return np.asarray(turned)
