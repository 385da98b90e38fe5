"""What stored pixels mean: depth, transparency, orientation, colour space. Arrays and Pillow images; knows no file."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from upscale_cli.media.metadata import icc_space, srgb_profile

GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_BAND_PIXELS = 1_000_000  # converted at a time


@dataclass(frozen=True, slots=True)
class Pixels:
    """Decoded pixels, as in Frame; `icc` is the profile they are in where that is not the file's."""

    color: np.ndarray
    alpha: np.ndarray | None
    icc: bytes | None = None
    notes: tuple[str, ...] = ()


def to_depth(array: np.ndarray, depth: int) -> np.ndarray:
    """8 to 16 bits: v x 257. 16 to 8 bits: round(v / 257), exactly."""
    if array.dtype.itemsize * 8 == depth:
        return array
    if depth == 16:
        return array.astype(np.uint16) * np.uint16(257)
    wide = array.astype(np.uint32)
    wide *= 255
    wide += 32895
    wide >>= 16
    return wide.astype(np.uint8)


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """H x W x C over white, rounded to nearest, same dtype."""
    most = int(np.iinfo(color.dtype).max)
    weight = alpha[..., None].astype(np.uint32)
    blend = color.astype(np.uint32) * weight + most * (most - weight) + most // 2  # at most 65535^2 + 32767 < 2^32
    return (blend // most).astype(color.dtype)


def unpremultiply(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Associated to straight alpha, rounded to nearest, same dtype; black where alpha is 0."""
    most = int(np.iinfo(color.dtype).max)
    weight = np.maximum(alpha[..., None].astype(np.uint64), 1)
    return np.minimum((color.astype(np.uint64) * most + weight // 2) // weight, most).astype(color.dtype)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """H x W (x C) turned as Exif orientation 1 to 8 asks."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def from_pillow(image: Image.Image, icc: bytes | None) -> Pixels:
    """The pixels of a loaded 8-bit Pillow image (or a 16-bit grey one). Alpha comes out straight."""
    if image.mode in ("CMYK", "LAB"):
        return _through_profile(image, icc)
    if image.mode.startswith("I;16"):
        return _sixteen_grey(image)
    transparent = image.has_transparency_data
    grey = image.mode in GREY_MODES
    mode = ("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB")
    color = np.empty((image.height, image.width, 1 if grey else 3), np.uint8)
    alpha = np.empty(color.shape[:2], np.uint8) if transparent else None
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):  # whole, they would be in memory three times
        stop = min(image.height, top + rows)
        band = np.asarray(image.crop((0, top, image.width, stop)).convert(mode)).reshape(stop - top, image.width, -1)
        color[top:stop] = band[..., : color.shape[2]]
        if alpha is not None:
            alpha[top:stop] = band[..., -1]
    return Pixels(color, alpha)


def _sixteen_grey(image: Image.Image) -> Pixels:
    color = np.array(image).astype(np.uint16)[..., None]
    key = image.info.get("transparency")
    alpha = None if key is None else np.where(color[..., 0] == key, 0, 65535).astype(np.uint16)
    return Pixels(color, alpha)


def _through_profile(image: Image.Image, icc: bytes | None) -> Pixels:
    """CMYK and Lab to sRGB: through the embedded profile, else by the formula everybody falls back to."""
    srgb = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    wanted = "CMYK" if image.mode == "CMYK" else "Lab"
    source = None
    if icc is not None and icc_space(icc) == wanted:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        note = f"{wanted} converted to sRGB through its colour profile"
    elif image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        note = "Lab converted to sRGB"
    else:
        note = "CMYK without a usable colour profile converted to sRGB by the plain formula (1 - ink)(1 - black)"
    if source is None:
        rgb = image.convert("RGB")
    else:
        try:
            rgb = ImageCms.profileToProfile(
                image,
                source,
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except ImageCms.PyCMSError as error:
            if image.mode == "LAB":
                raise ValueError(f"its Lab colours cannot be converted ({error})") from error
            rgb, note = image.convert("RGB"), "the CMYK profile cannot be used: converted by the plain formula"
    assert rgb is not None
    return Pixels(np.array(rgb), None, srgb_profile(), (note,))
