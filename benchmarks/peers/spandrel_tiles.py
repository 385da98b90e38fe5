"""A model through spandrel in plain tiles: eager PyTorch in fp32, tiles of 256 pixels cut hard, nothing around them.

    upscale models export realesrgan-x4 --to safetensors
    python benchmarks/peers/spandrel_tiles.py realesrgan-x4.safetensors IN OUT

Read and written by OpenCV. Needs spandrel, and so torchvision.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision_operators
from realesrgan_loop import in_tiles

TILE = 256


@torch.no_grad()
def main() -> None:
    model, photos, out = map(Path, sys.argv[1:])
    _operators = torchvision_operators.declared()
    from spandrel import ModelLoader, UnsupportedModelError  # pyright: ignore[reportMissingImports]

    try:
        network = ModelLoader(device="cpu").load_from_file(model).eval()
    except (UnsupportedModelError, RuntimeError):  # the second for one that it takes for another
        raise SystemExit(f"spandrel knows no network like {model.stem}") from None
    for path in sorted(photos.iterdir()):
        bgr = cv2.imread(str(path))
        assert bgr is not None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        lr = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        sr = in_tiles(network, lr, network.scale, TILE, 0)
        pixels = (sr[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(out / f"{path.stem}.png"), cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
