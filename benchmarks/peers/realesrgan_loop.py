"""What Real-ESRGAN's inference script does: eager PyTorch, N x C x H x W, the whole picture or tiles cut hard.

    upscale models export realesrgan-x4 --to safetensors
    python benchmarks/peers/realesrgan_loop.py realesrgan-x4.safetensors IN OUT [--tile 400] [--half]

Defaults are those of inference_realesrgan.py: no tiles, where there are tiles 10 pixels around each, the picture itself
not padded. Read and written by OpenCV.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from upscale_cli import zoo


def load(path: Path) -> tuple[nn.Module, int]:
    """The network with the weights of the file, and its scale. Nothing is verified, as torch.load verifies nothing."""
    with safe_open(path, "pt") as file:
        variant = zoo.find(file.metadata()["variant"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no dict
    network = variant.build().eval()
    network.load_state_dict(state)
    return network, variant.scale


def in_tiles(network: Callable[[Tensor], Tensor], lr: Tensor, scale: int, tile: int, pad: int) -> Tensor:
    """1 x 3 x H x W to 1 x 3 x sH x sW: each tile is run with `pad` pixels around it, and cut where it ends."""
    height, width = lr.shape[-2:]
    sr = lr.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            above, before = max(top - pad, 0), max(left - pad, 0)
            part = network(lr[..., above : bottom + pad, before : right + pad])
            part = part[..., (top - above) * scale :, (left - before) * scale :]
            part = part[..., : (bottom - top) * scale, : (right - left) * scale]
            sr[..., top * scale : bottom * scale, left * scale : right * scale] = part
    return sr


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tile", type=int, default=0)
    parser.add_argument("--tile-pad", type=int, default=10)
    parser.add_argument("--half", action="store_true", help="fp16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    network, scale = load(options.model)
    network = network.to(options.device)
    if options.half:
        network = network.half()
    for path in sorted(options.photos.iterdir()):
        photo = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert photo is not None
        rgb = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_BGR2RGB)
        lr = torch.from_numpy(np.transpose(rgb, (2, 0, 1))).float()[None].to(options.device)
        if options.half:
            lr = lr.half()
        sr = in_tiles(network, lr, scale, options.tile, options.tile_pad) if options.tile else network(lr)
        planes = sr.squeeze().float().cpu().clamp_(0, 1).numpy()
        bgr = np.transpose(planes[[2, 1, 0]], (1, 2, 0))
        cv2.imwrite(str(options.out / f"{path.stem}.png"), (bgr * 255).round().astype(np.uint8))


if __name__ == "__main__":
    main()
