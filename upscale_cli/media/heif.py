"""HEIC in: photographs of phones and newer cameras, by libheif (pillow-heif, the extra `heif`) as a format of Pillow.

The decoder turns them upright and takes the orientation out of their metadata. HEVC pictures are whole or not there: of
one that is cut nothing is salvaged.
"""

from PIL import Image

from upscale_cli.media.guard import Guard

INSTALL = 'Install it with `pip install "upscale-cli[heif]"`'
NAME = "HEIF"
"""What Pillow calls the format."""


def register(guard: Guard) -> None:
    """From here on Pillow knows the format. InputError, naming the extra, where the library is missing."""
    try:
        import pillow_heif
    except ImportError as error:
        raise guard.fault(f"is a HEIC picture, which pillow-heif reads. {INSTALL}.") from error
    pillow_heif.register_heif_opener()


def left_out(image: Image.Image) -> list[str]:
    """What is in the file and not in the picture that is read, in words."""
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append("holds several pictures (HEIC): the main one is used")
    if (bits := image.info.get("bit_depth", 8)) > 8:
        notes.append(f"{bits}-bit HEIC read at 8 bits")
    if image.info.get("aux") or image.info.get("depth_images"):
        notes.append("its depth or gain map is left out")
    return notes
