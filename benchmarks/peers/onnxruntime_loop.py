"""ONNX Runtime on the processor with its defaults, whole pictures.

    upscale models export realesrgan-x4 --to onnx
    python benchmarks/peers/onnxruntime_loop.py realesrgan-x4.onnx IN OUT

Read and written by OpenCV.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]


def main() -> None:
    model, photos, out = map(Path, sys.argv[1:])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for path in sorted(photos.iterdir()):
        bgr = cv2.imread(str(path))
        assert bgr is not None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        lr = np.ascontiguousarray(rgb.astype(np.float32).transpose(2, 0, 1)[None] / 255)
        outputs: Sequence[Any] = session.run(None, {"lr": lr})
        pixels = (outputs[0][0] * 255).round().astype(np.uint8).transpose(1, 2, 0)
        cv2.imwrite(str(out / f"{path.stem}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
