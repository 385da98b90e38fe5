"""Reference values of metrics, by implementations that share nothing with ours; and the pictures they are taken on.

Owns `metric_oracles.json`, which the default suite compares with. It is written anew, in an environment that holds
torchmetrics, pytorch-msssim, scikit-image, lpips, torch-fidelity, pytorch-fid, DISTS-pytorch and scipy, with the
unpacked source package of basicsr 1.4.2 for NIQE, by

    python tests/metric_oracles.py basicsr-1.4.2

Networks have seeded random weights here: published ones are large, and formulas can be compared with any.
"""

import json
import math
import sys
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from upscale_cli.media.resize import imresize
from upscale_cli.metrics.protocol import luma

STORED = Path(__file__).with_suffix(".json")
PHOTOS = Path(__file__).parents[1] / "benchmarks" / "photos"
PACKAGES = ("torchmetrics", "pytorch-msssim", "scikit-image", "lpips", "torch-fidelity", "pytorch-fid", "DISTS-pytorch")
Pixels = npt.NDArray[np.uint8]


def photograph(name: str, height: int, width: int) -> Pixels:
    """A crop from the middle."""
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def pairs(height: int, width: int) -> dict[str, tuple[Pixels, Pixels]]:
    """Damaged pictures and their references: one blurred, one full of noise, one of other colours."""
    spices, otters, anhinga = (photograph(name, height, width) for name in ("spices", "otters", "anhinga"))
    noise = np.random.default_rng(0).normal(0, 14, otters.shape)
    tinted = np.rint(anhinga * np.array([0.9, 1.0, 0.8])).astype(np.uint8)
    return {
        "blurred": (imresize(imresize(spices, height // 4, width // 4), height, width), spices),
        "noisy": (np.clip(np.rint(otters + noise), 0, 255).astype(np.uint8), otters),
        "tinted": (tinted, anhinga),
    }


def fill(network: nn.Module) -> nn.Module:
    """Seeded random weights, by the order of the state dict, that keep activations at one size; statistics too."""
    random = np.random.default_rng(1)
    state = network.state_dict()
    for key, value in state.items():
        if value.ndim > 1:
            numbers = random.standard_normal(value.shape, np.float32) * math.sqrt(2 / value[0].numel())
        elif value.is_floating_point():
            numbers = random.random(value.shape, np.float32) + (0.5 if key.endswith(("weight", "var")) else 0.0)
        else:
            continue
        state[key] = torch.from_numpy(np.asarray(numbers, np.float32))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def feature_sets() -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Two sets of vectors each: many, and fewer than they are long."""
    random = np.random.default_rng(2)
    mixing = random.standard_normal((48, 48))
    ours, theirs = random.standard_normal((300, 48)) @ mixing, random.standard_normal((200, 48)) + 0.3
    return {"many": (ours, theirs), "few": (ours[:12], theirs[:9])}


def to_tensor(image: Pixels, dtype: torch.dtype = torch.float64) -> Tensor:
    """H x W x 3 to 1 x 3 x H x W, 0 to 255."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(dtype)


def main(basicsr: Path) -> None:
    from oracle import oracle

    oracle("torchvision")  # declares the operators that it misses here
    document = {
        "versions": {name: version(name) for name in PACKAGES} | {"basicsr": basicsr.name.partition("-")[2]},
        "formulas": {name: formulas(*pair, basicsr) for name, pair in pairs(224, 320).items()},
        "networks": through_networks(),
        "frechet": frechet(),
    }
    STORED.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(STORED.read_text("utf-8"))


def formulas(image: Pixels, reference: Pixels, basicsr: Path) -> dict[str, dict[str, float]]:
    """Metric -> package -> value."""
    import pytorch_msssim
    import skimage.color
    import skimage.metrics
    import torchmetrics.functional.image as tm

    y, y_reference = (skimage.color.rgb2ycbcr(each)[..., 0] for each in (image, reference))
    ty, ty_reference = (torch.from_numpy(each)[None, None] for each in (y, y_reference))
    gaussian: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    lab, lab_reference = skimage.color.rgb2lab(image), skimage.color.rgb2lab(reference)
    both, planes = (to_tensor(image), to_tensor(reference)), (ty, ty_reference)
    return {
        "psnr_y": {
            "scikit-image": skimage.metrics.peak_signal_noise_ratio(y_reference, y, data_range=255),
            "torchmetrics": float(tm.peak_signal_noise_ratio(*planes, data_range=255.0)),
        },
        "psnr_rgb": {
            "scikit-image": skimage.metrics.peak_signal_noise_ratio(reference, image),
            "torchmetrics": float(tm.peak_signal_noise_ratio(*both, data_range=255.0)),
        },
        "ssim_y": {
            "scikit-image": skimage.metrics.structural_similarity(y, y_reference, data_range=255, **gaussian),
            "torchmetrics": torchmetrics_ssim(*planes),
            "pytorch-msssim": float(pytorch_msssim.ssim(*planes, data_range=255)),
        },
        "ssim_rgb": {
            "scikit-image": skimage.metrics.structural_similarity(
                image, reference, data_range=255, channel_axis=2, **gaussian
            ),
            "pytorch-msssim": float(pytorch_msssim.ssim(*both, data_range=255)),
        },
        "ms_ssim_y": {
            "torchmetrics": float(
                tm.multiscale_structural_similarity_index_measure(*planes, sigma=1.5, data_range=255.0)
            ),
            "pytorch-msssim": float(pytorch_msssim.ms_ssim(*planes, data_range=255)),
        },
        "delta_e": {"scikit-image": float(skimage.color.deltaE_ciede2000(lab, lab_reference).mean())},
        "niqe": {"basicsr": niqe(luma(image), basicsr)},  # ours: a picture has ties, and rounds them as its sums do
    }


def torchmetrics_ssim(plane: Tensor, reference: Tensor) -> float:
    """Its map has the size of the picture, over reflected borders: without them."""
    import torchmetrics.functional.image as tm

    everywhere = tm.structural_similarity_index_measure(
        plane, reference, sigma=1.5, data_range=255.0, return_full_image=True
    )[1]
    return float(everywhere[..., 5:-5, 5:-5].mean())


def niqe(plane: npt.NDArray[np.float64], basicsr: Path) -> float:
    """By basicsr's module, without the package around it, which does not load beside today's torchvision."""
    import scipy.ndimage

    def from_file(name: str, path: str) -> types.ModuleType:
        source = (basicsr / path).read_text("utf-8")
        # In 64 bits, as everything else there: in 32 a blurred picture differs by 0.007.
        source = source.replace(".float()", ".double()").replace("FloatTensor", "DoubleTensor")
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(source, path, "exec"), vars(module))
        return module

    def stand_in(name: str, **content: Any) -> None:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)

    stand_in("scipy.ndimage.filters", convolve=scipy.ndimage.convolve)
    stand_in("basicsr.metrics.metric_util", reorder_image=None, to_y_channel=None)
    stand_in(
        "basicsr.utils.registry", METRIC_REGISTRY=types.SimpleNamespace(register=lambda: lambda function: function)
    )
    from_file("basicsr.utils.matlab_functions", "basicsr/utils/matlab_functions.py")
    module = from_file("basicsr.metrics.niqe", "basicsr/metrics/niqe.py")
    model = np.load(basicsr / "basicsr/metrics/niqe_pris_params.npz")
    parts = (model[name] for name in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
    torch.set_default_dtype(torch.float64)
    try:
        return float(module.niqe(plane.round(), *parts))
    finally:
        torch.set_default_dtype(torch.float32)


def through_networks() -> dict[str, dict[str, dict[str, float]]]:
    """Case -> metric -> package -> value."""
    import lpips
    import torchvision.models

    vgg, alex = fill(torchvision.models.vgg16().features), fill(torchvision.models.alexnet().features)
    judges: dict[str, Any] = {}
    for name, kind, features in (("lpips", "vgg", vgg), ("lpips_alex", "alex", alex)):
        judge = lpips.LPIPS(net=kind, pnet_rand=True, verbose=False)
        for inner in (getattr(judge.net, f"slice{number}") for number in range(1, 6)):
            for place, layer in inner.named_children():
                layer.load_state_dict(features[int(place)].state_dict())
        judges[name] = judge
    found: dict[str, dict[str, dict[str, float]]] = {}
    for case, (image, reference) in pairs(96, 128).items():
        both = to_tensor(image, torch.float32) / 255, to_tensor(reference, torch.float32) / 255
        with torch.inference_mode():
            found[case] = {name: {"lpips": float(judge(*both, normalize=True))} for name, judge in judges.items()}
            found[case]["dists"] = {"DISTS-pytorch": float(dists(vgg)(*both))}
    return found


def dists(features: nn.Module) -> nn.Module:
    import DISTS_pytorch.DISTS_pt as module

    module.models.vgg16 = lambda pretrained: types.SimpleNamespace(features=features)
    judge = module.DISTS(load_weights=False)
    weights = torch.load(Path(module.__file__).with_name("weights.pt"), map_location="cpu")
    judge.alpha.data, judge.beta.data = weights["alpha"], weights["beta"]
    return judge


def frechet() -> dict[str, dict[str, float]]:
    """Set -> package -> value."""
    import torch_fidelity.metric_fid
    from pytorch_fid.fid_score import calculate_frechet_distance

    found: dict[str, dict[str, float]] = {}
    for name, sets in feature_sets().items():
        moments = [(each.mean(0), np.cov(each, rowvar=False)) for each in sets]
        found[name] = {
            "pytorch-fid": float(calculate_frechet_distance(*moments[0], *moments[1])),
            "torch-fidelity": float(
                torch_fidelity.metric_fid.fid_statistics_to_metric(
                    *({"mu": mean, "sigma": covariance} for mean, covariance in moments), False
                )["frechet_inception_distance"]
            ),
        }
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
