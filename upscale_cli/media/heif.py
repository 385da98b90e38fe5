"""HEIC in: photographs of phones and newer cameras, by libheif (pillow-heif, the extra `heif`) as a format of Pillow.

The decoder turns them upright and takes the orientation out of their metadata. HEVC pictures are whole or not there: of
one that is cut nothing is salvaged.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from upscale_cli.media.guard import Guard
from upscale_cli.media.pixels import Pixels, unpremultiply

INSTALL = 'Install it with `pip install "upscale-cli[heif]"`'
NAME = "HEIF"
"""What Pillow calls the format."""
_STILL = {4, 5, 8, 13, 16, 18}  # ITU-T H.273, table 3: powers, linear, sRGB, PQ, HLG


def register(guard: Guard) -> None:
    """From here on Pillow knows the format. InputError, naming the extra, where the library is missing."""
    try:
        import pillow_heif
    except ImportError as error:
        raise guard.fault(f"is a HEIC picture, which pillow-heif reads. {INSTALL}.") from error
    pillow_heif.register_heif_opener()


def bits(image: Image.Image) -> int:
    """Of each value, 8 to 16."""
    return image.info.get("bit_depth", 8)


def deep(path: Path, bits: int) -> Pixels:
    """The main picture, of `bits` bits a value, as one of 16; Pillow has no colours of more than 8."""
    import pillow_heif

    picture = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    array = np.atleast_3d(np.asarray(picture))
    low = array >> np.uint16(bits)
    array = np.bitwise_or(array, low, out=low)  # the library leaves zeros below: white is to be white
    if array.shape[2] < 4:
        return Pixels(array, None)
    color, alpha = np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3])
    return Pixels(unpremultiply(color, alpha) if picture.mode.startswith("RGBa") else color, alpha)


def color_codes(image: Image.Image) -> bytes | None:
    """What a picture without a profile says of its colours, as the payload of PNG's cICP; None for sRGB or a profile.

    The curve of films (BT.709 and its like) stands in many still pictures that no program shows by it.
    """
    nclx = image.info.get("nclx_profile") or {}
    primaries, transfer = (nclx.get(name, 2) for name in ("color_primaries", "transfer_characteristics"))
    told = primaries != 2 and transfer in _STILL and not image.info.get("icc_profile")
    return bytes((primaries, transfer, 0, 1)) if told else None


def left_out(image: Image.Image) -> list[str]:
    """What is in the file and not in the picture that is read, in words."""
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append("holds several pictures (HEIC): the main one is used")
    if image.info.get("aux") or image.info.get("depth_images"):
        notes.append("its depth or gain map is left out")
    return notes
