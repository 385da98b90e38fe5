"""OpenVINO as its documentation teaches: read a model, compile it for the processor, infer whole pictures.

    upscale models export realesrgan-x4 --to openvino
    python benchmarks/peers/openvino_by_hand.py realesrgan-x4.xml IN OUT [--f32] [--cache-dir DIR]

By itself it computes in bf16 where the processor can. With a folder for its cache the second run finds the model
compiled. Read and written by OpenCV.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--f32", action="store_true")
    parser.add_argument("--cache-dir")
    options = parser.parse_args()
    # On import it would report home without a question asked; it does not where its reporter cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if options.f32:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    if options.cache_dir:
        core.set_property({"CACHE_DIR": options.cache_dir})
    model = core.compile_model(core.read_model(options.model), "CPU", settings)
    for path in sorted(options.photos.iterdir()):
        bgr = cv2.imread(str(path))
        assert bgr is not None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        lr = np.ascontiguousarray(rgb.astype(np.float32).transpose(2, 0, 1)[None] / 255)
        sr = model(lr)[0][0]
        pixels = (sr * 255).round().astype(np.uint8).transpose(1, 2, 0)
        cv2.imwrite(str(options.out / f"{path.stem}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
