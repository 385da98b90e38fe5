"""Flicker: what changes from frame to frame of a film though nothing moved. Pure functions.

Relatives: the warping error of Lai et al., Learning Blind Video Temporal Consistency, ECCV 2018 (mean square, on RGB in
[0, 1]), tOF and tLP of Chu et al., TecoGAN, ACM TOG 2020 (which need an original). Blurred films have less of it, so it
is to be read beside PSNR or by eye.
"""

import math

import numpy as np

from upscale_cli.metrics.protocol import NoValueError, Plane, Since, luma
from upscale_cli.motion import METHOD, Motion

LEAST_SEEN = 0.5
PROTOCOL = (
    "warping error of the output minus that of its source enlarged by bicubic (0: as the source; less: calmer, or "
    "blurred). Warping error (after Lai 2018): RMS of luma, in levels, of a frame minus the one before moved to its "
    f"place by bicubic, where both show it; the motion is the source's, by {METHOD}, enlarged; pairs of frames that "
    "share less than half are cuts and have none"
)


def warping_error(now: Plane, before: Plane, motion: Motion) -> float:
    """RMS of H x W `now` minus `before` moved by `motion`, over the pixels that are seen in both.

    NoValueError where they are less than half of all: then it is another scene.
    """
    seen = motion.seen
    if seen.mean() < LEAST_SEEN:
        raise NoValueError("the frames share less than half")
    moved = motion.warp(before.astype(np.float32))
    return float(np.sqrt(np.mean(np.square(now - moved)[seen])))


def flicker(now: Plane, since: Since | None) -> float:
    """How much more of a warping error a frame, by its luma, has than its source.

    NoValueError for the first frame of a film, and at cuts.
    """
    if since is None or math.isnan(since.source):
        raise NoValueError("there is no frame before it that shows the same")
    return warping_error(now, luma(since.before), since.motion) - since.source
