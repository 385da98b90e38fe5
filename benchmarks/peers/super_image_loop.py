"""EDSR through the super-image package, as its README enlarges a picture: eager PyTorch in fp32, whole pictures.

    upscale models export edsr-x4 --to safetensors
    python benchmarks/peers/super_image_loop.py edsr-x4.safetensors IN OUT

Its network owns the layers that take the mean off and put it back, and its forward leaves them out; weights trained
with them, as these are, need them, so they are called here. Read by Pillow, written by OpenCV, as its ImageLoader does.
"""

import sys
from pathlib import Path

import torch
import torchvision_operators
from PIL import Image
from safetensors.torch import load_file


@torch.no_grad()
def main() -> None:
    model, photos, out = map(Path, sys.argv[1:])
    _operators = torchvision_operators.declared()
    from super_image import EdsrConfig, EdsrModel, ImageLoader  # pyright: ignore[reportMissingImports]

    state = load_file(model)
    scale = int(model.stem.rpartition("x")[2])
    # super-image itself would keep a tensor of another network's and say nothing.
    network = EdsrModel(EdsrConfig(scale=scale, rgb_range=1))
    if {key: value.shape for key, value in network.state_dict().items()} != {k: v.shape for k, v in state.items()}:
        raise SystemExit(f"{model.stem} is not the EDSR of super-image")
    network.load_state_dict(state)
    network.eval()
    for path in sorted(photos.iterdir()):
        with Image.open(path) as photo:
            lr = ImageLoader.load_image(photo)
        sr = network.add_mean(network(network.sub_mean(lr)))
        ImageLoader.save_image(sr, str(out / f"{path.stem}.png"))


if __name__ == "__main__":
    main()
