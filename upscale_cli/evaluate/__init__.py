"""`upscale eval`: how near the pictures of models are to the originals, and by which protocol that was measured."""

from upscale_cli.evaluate.pairs import IMRESIZE, Pair, Pixels, fit_pair, make_pair, pair_by_name, read_pair, read_rgb8
from upscale_cli.evaluate.report import EvalReport, ImageScore, ModelReport, Problem, Step
from upscale_cli.evaluate.verb import EvalRequest, evaluate, mean_scores

__all__ = [
    "IMRESIZE",
    "EvalReport",
    "EvalRequest",
    "ImageScore",
    "ModelReport",
    "Pair",
    "Pixels",
    "Problem",
    "Step",
    "evaluate",
    "fit_pair",
    "make_pair",
    "mean_scores",
    "pair_by_name",
    "read_pair",
    "read_rgb8",
]
