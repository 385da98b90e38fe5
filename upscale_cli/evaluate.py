"""`upscale eval`: how near a model's pictures are to the originals, and by which protocol that was measured."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt

from upscale_cli.engines import open_engine
from upscale_cli.errors import InputError, UsageError
from upscale_cli.media.image import DEFAULT_MAX_PIXELS, ImageSource
from upscale_cli.media.paths import picture_files
from upscale_cli.media.resize import imresize
from upscale_cli.metrics.protocol import Protocol, Scores, score
from upscale_cli.networks import Combination
from upscale_cli.pipeline import Upscaler

Pixels = npt.NDArray[np.uint8]
IMRESIZE = "HR cut to a multiple of the scale from the top left, shrunk by bicubic as MATLAB's imresize"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """What to score on what."""

    model: str | Combination
    data: Path
    """Folder of HR images, or one image."""
    scale: int | None = None
    lr: Path | None = None
    """Folder of LR images, paired with HR by name; without it they are made by imresize."""
    device: str = "auto"
    precision: str = "fp32"
    backend: str = "torch"
    """What runs the network; see `open_engine`."""
    """fp32 by default: a score must not depend on the machine it was taken on."""
    tile_px: int = 0
    offline: bool = False


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image of the set."""

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Scores and how they were made."""

    model: str
    scale: int
    data: str
    protocol: str
    low_resolution: str
    precision: str
    backend: str
    device: str
    images: tuple[ImageScore, ...]

    @property
    def mean(self) -> Scores:
        """Mean over images."""
        return mean_scores([image.scores for image in self.images])


@dataclass(frozen=True, slots=True)
class Pair:
    """An HR image and the LR image a model sees, 8-bit RGB; hr is scale x lr in size."""

    name: str
    hr: Pixels
    lr: Pixels


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """Mean of each score over images."""
    rows = list(scores)
    return Scores(*(fmean(getattr(row, name) for row in rows) for name in Scores.__slots__))


def score_pairs(
    upscaler: Upscaler, pairs: Iterable[Pair], *, progress: Callable[[ImageScore], None] | None = None
) -> tuple[ImageScore, ...]:
    """Enlarge each LR image by the way every picture goes and score it against its HR image."""
    protocol = Protocol(crop_border=upscaler.scale)
    found: list[ImageScore] = []
    for pair in pairs:
        image = ImageScore(pair.name, score(upscaler.enlarge_rgb8(pair.lr), pair.hr, protocol))
        found.append(image)
        if progress:
            progress(image)
    return tuple(found)


def evaluate(request: EvalRequest, *, progress: Callable[[ImageScore], None] | None = None) -> EvalReport:
    """Score a model on a folder. UsageError if nothing can be paired; InputError if an image cannot be read."""
    files = picture_files(request.data)
    if not files:
        raise UsageError(f"{request.data} holds no picture to score on. Give --data a folder of HR images.")
    engine = open_engine(
        request.model,
        request.scale,
        device=request.device,
        precision=request.precision,
        backend=request.backend,
        offline=request.offline,
    )
    if engine.scale == 1 and request.lr is None:
        raise UsageError(f"{engine.name} enlarges nothing: give --lr the folder of what it is to restore.")
    partners = pair_by_name(files, request.lr, engine.scale) if request.lr else dict.fromkeys(files)
    upscaler = Upscaler([engine], tile_px=request.tile_px)
    images = score_pairs(upscaler, read_pairs(partners, engine.scale), progress=progress)
    return EvalReport(
        model=engine.name,
        scale=engine.scale,
        data=str(request.data),
        protocol=str(Protocol(crop_border=engine.scale)),
        low_resolution=f"read from {request.lr}" if request.lr else IMRESIZE,
        precision=engine.precision,
        backend=engine.backend,
        device=engine.device,
        images=images,
    )


def pair_by_name(files: list[Path], folder: Path, scale: int) -> dict[Path, Path | None]:
    """HR file -> LR file of the same stem, or of that stem with the scale behind it (`0801x4`, `baby_x4`)."""
    found = {path.stem: path for path in picture_files(folder)}
    pairs: dict[Path, Path | None] = {}
    for path in files:
        names = (path.stem, f"{path.stem}x{scale}", f"{path.stem}_x{scale}", f"{path.stem}_LRBI_x{scale}")
        match = next((found[name] for name in names if name in found), None)
        if match is None:
            raise UsageError(f"{path.name} has no partner in {folder}: expected one named {' or '.join(names[:3])}.")
        pairs[path] = match
    return pairs


def read_pairs(partners: dict[Path, Path | None], scale: int) -> Iterator[Pair]:
    """Decode, and make the low resolution where there is none. InputError where sizes do not fit."""
    for path, partner in partners.items():
        hr = read_rgb8(path)
        if partner is None:
            yield make_pair(path.name, hr, scale)
            continue
        lr = read_rgb8(partner)
        height, width = lr.shape[0] * scale, lr.shape[1] * scale
        if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
            raise InputError(
                f"{partner} is {lr.shape[1]} x {lr.shape[0]}; times {scale} that does not fit {path.name}, "
                f"which is {hr.shape[1]} x {hr.shape[0]}. Give the --scale the images were made with."
            )
        yield Pair(path.name, hr[:height, :width], lr)


def make_pair(name: str, hr: Pixels, scale: int) -> Pair:
    """Cut an image to a multiple of `scale` from the top left and shrink it as MATLAB's imresize does."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if not height or not width:
        raise InputError(f"{name} is {hr.shape[1]} x {hr.shape[0]}: too small for x{scale}.")
    hr = hr[: height * scale, : width * scale]
    return Pair(name, hr, imresize(hr, height, width))


def read_rgb8(path: Path) -> Pixels:
    """The first frame as H x W x 3 8-bit RGB, as scores are taken on; alpha is left out, grey is repeated."""
    with ImageSource(path, max_pixels=DEFAULT_MAX_PIXELS) as source:
        color = next(iter(source.frames())).color
    if color.dtype == np.uint16:
        color = np.rint(color / 257).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(color, (*color.shape[:2], 3)))
