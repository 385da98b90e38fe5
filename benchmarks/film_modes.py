"""What the speed modes of a film cost and gain: seconds, PSNR, flicker, beside the light and the strong network alone.

    python benchmarks/film_modes.py FILM [--frames 17] [--skip 30] [--light lightweight] [--strong improved] [--every 4]

The film is shrunk by 2 (antialiased bicubic) and enlarged by 2, so that the truth is known: the film itself. PSNR is on
the RGB of all frames. Flicker is how far the change from frame to frame is from the truth's: the mean over frames and
pixels of |(made[t] - made[t-1]) - (truth[t] - truth[t-1])| in levels of luma. `static N` is what --skip-static N does;
`keyframes` is a mode that was tried and not built (LOG.md): the strong network on every N-th frame, of whose difference
to the light one a share is shown there, and another share, carried along by optical flow and faded where that does not
match, between. The last line of the output is one JSON document.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from machine import machine
from PIL import Image

from upscale_cli.engines import open_engine
from upscale_cli.media.frame import Frame
from upscale_cli.media.video.options import VideoOptions
from upscale_cli.media.video.source import VideoSource
from upscale_cli.pipeline import Upscaler

Pictures = list[np.ndarray]
STATIC = (0.0, 2.0, 4.0, 8.0)
SHARES = ((1.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.25, 0.25))
MATCH_LEVELS = 1.5  # of luma, by which a frame may differ from the keyframe moved onto it, before little is carried


def main() -> None:
    asked = _arguments()
    truth = _truth(asked)
    shrunk = [_resized(each, 0.5) for each in truth]
    light, strong = (Upscaler([open_engine(model, 2, device="cpu")]) for model in (asked.light, asked.strong))
    for upscaler in (light, strong):
        upscaler.enlarge_rgb8(shrunk[0])  # warms up
    rows: dict[str, dict[str, object]] = {}

    def measure(name: str, make: Callable[[], Pictures]) -> Pictures:
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        rows[name] = {"seconds": round(seconds, 2), "psnr": _psnr(made, truth), "flicker": _flicker(made, truth)}
        print(f"{name:20} {seconds:7.2f} s {rows[name]['psnr']:8} dB  flicker {rows[name]['flicker']}", flush=True)
        return made

    plain = measure(asked.light, lambda: [light.enlarge_rgb8(each) for each in shrunk])
    best = measure(asked.strong, lambda: [strong.enlarge_rgb8(each) for each in shrunk])
    for level in STATIC:
        light.begin(level)
        measure(f"static {level:g}", lambda: [light.enlarge_rgb8(each) for each in shrunk])
    for key, between in SHARES:
        measure(
            f"keyframes {key:g} {between:g}",
            lambda shares=(key, between): list(_keyframes(shrunk, plain, best, asked.every, shares)),
        )
    found = {
        "date": date.today().isoformat(),
        "machine": machine(torch.device("cpu"), ("torch", "openvino", "opencv-python")),
        "film": asked.film.name,
        "frames": len(truth),
        "size": truth[0].shape[1::-1],
        "every": asked.every,
        "modes": rows,
    }
    print(json.dumps(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--skip", type=int, default=30)
    parser.add_argument("--light", default="lightweight")
    parser.add_argument("--strong", default="improved")
    parser.add_argument("--every", type=int, default=4)
    return parser.parse_args()


def _truth(asked: argparse.Namespace) -> Pictures:
    """Frames cut to even sides."""
    with VideoSource(asked.film, VideoOptions(), max_pixels=10**9) as source:
        frames: Iterator[Frame] = islice(source.frames(), asked.skip, asked.skip + asked.frames)
        return [each.color[: each.height // 2 * 2, : each.width // 2 * 2] for each in frames]


def _resized(picture: np.ndarray, factor: float) -> np.ndarray:
    size = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _keyframes(
    shrunk: Pictures, plain: Pictures, best: Pictures, every: int, shares: tuple[float, float]
) -> Iterator[np.ndarray]:
    """The light network's frames with what the strong one adds, of the keyframes at both sides by their distance."""
    for index, (frame, picture) in enumerate(zip(shrunk, plain, strict=True)):
        before, added = index // every * every, np.zeros(picture.shape, np.float32)
        for key in (before, before + every):
            if key >= len(shrunk) or abs(key - index) == every:
                continue
            difference = best[key].astype(np.float32) - picture if key == index else best[key] - np.float32(plain[key])
            carried = difference if key == index else _carried(difference, shrunk[key], frame)
            added += carried * shares[key != index] * (1 - abs(key - index) / every)
        yield np.rint(picture + added).clip(0, 255).astype(np.uint8)


def _carried(difference: np.ndarray, key: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """What belongs to `key`, twice its size, moved to where it is in `frame`, and less of it where that fits badly."""
    there, here = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (key, frame))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(here, there, None)  # type: ignore
    moved = _moved(there.astype(np.float32), flow)
    apart = cv2.GaussianBlur(np.abs(moved - here), (0, 0), 1.5)
    share = np.exp(-np.square(apart / MATCH_LEVELS))
    size = difference.shape[1::-1]
    return _moved(difference, 2 * cv2.resize(flow, size)) * cv2.resize(share, size)[..., None]


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return cv2.remap(
        picture, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _psnr(made: Pictures, truth: Pictures) -> float:
    errors = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(made, truth, strict=True)]
    return round(float(10 * np.log10(255**2 / np.mean(errors))), 3)


def _flicker(made: Pictures, truth: Pictures) -> float:
    luma = [[cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in film] for film in (made, truth)]
    apart = [a - b for a, b in zip(*luma, strict=True)]
    return round(float(np.mean([np.abs(after - before).mean() for before, after in pairwise(apart)])), 4)


if __name__ == "__main__":
    main()
