"""Pillow's Lanczos: no network at all, the floor of time and of quality.

    python benchmarks/peers/pillow_lanczos.py realesrgan-x4 IN OUT

Of the model only the scale counts, which ends its name. Read and written by Pillow.
"""

import sys
from pathlib import Path

from PIL import Image


def main() -> None:
    model, photos, out = map(Path, sys.argv[1:])
    scale = int(model.stem.rpartition("x")[2])
    for path in sorted(photos.iterdir()):
        with Image.open(path) as photo:
            size = (photo.width * scale, photo.height * scale)
            photo.resize(size, Image.Resampling.LANCZOS).save(out / f"{path.stem}.png")


if __name__ == "__main__":
    main()
