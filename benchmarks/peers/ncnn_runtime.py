"""The ncnn runtime on the processor, with the files that realesrgan-ncnn-vulkan and its wrappers carry.

    python benchmarks/peers/ncnn_runtime.py realesrgan-x4plus.param IN OUT [--bf16] [--tile 200]

Its defaults, but a thread for every processor; --bf16 keeps values and weights in bf16. The whole picture, or tiles as
realesrgan-ncnn-vulkan cuts them: 10 pixels around each, at the border of the picture the last ones repeated. Read and
written by OpenCV. The .bin lies beside the .param.
"""

# ncnn's names are in its compiled part, of which the checker sees nothing.
# pyright: reportAttributeAccessIssue=false

import argparse
import os
from pathlib import Path

import cv2
import ncnn
import numpy as np

PREPADDING = 10


def enlarge(net: ncnn.Net, bgr: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8 to sH x sW x 3 uint8."""
    height, width = bgr.shape[:2]
    lr = ncnn.Mat.from_pixels(np.ascontiguousarray(bgr), ncnn.Mat.PixelType.PIXEL_BGR2RGB, width, height)
    lr.substract_mean_normalize([], [1 / 255] * 3)
    run = net.create_extractor()
    run.input("data", lr)
    _, sr = run.extract("output")
    pixels = (np.array(sr).clip(0, 1) * 255).round().astype(np.uint8)
    return cv2.cvtColor(pixels.transpose(1, 2, 0), cv2.COLOR_RGB2BGR)


def in_tiles(net: ncnn.Net, bgr: np.ndarray, tile: int) -> np.ndarray:
    height, width = bgr.shape[:2]
    padded = np.pad(bgr, ((PREPADDING, PREPADDING), (PREPADDING, PREPADDING), (0, 0)), mode="edge")
    rows = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            around = padded[top : bottom + 2 * PREPADDING, left : right + 2 * PREPADDING]
            sr = enlarge(net, around)
            cut = PREPADDING * sr.shape[0] // around.shape[0]
            row.append(sr[cut:-cut, cut:-cut])
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--tile", type=int, default=0)
    options = parser.parse_args()
    net = ncnn.Net()
    net.opt.num_threads = os.cpu_count() or 1
    net.opt.use_bf16_storage = options.bf16
    if net.load_param(str(options.model)) or net.load_model(str(options.model.with_suffix(".bin"))):
        raise SystemExit(f"ncnn cannot read {options.model}")
    for path in sorted(options.photos.iterdir()):
        bgr = cv2.imread(str(path))
        assert bgr is not None
        sr = in_tiles(net, bgr, options.tile) if options.tile else enlarge(net, bgr)
        cv2.imwrite(str(options.out / f"{path.stem}.png"), sr)


if __name__ == "__main__":
    main()
