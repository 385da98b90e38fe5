"""`upscale eval`: how near models come to the originals, how calm films are, and by which protocol."""

from upscale_cli.evaluate.listing import is_table, read_table, write_table
from upscale_cli.evaluate.pairs import (
    IMRESIZE,
    Files,
    Pair,
    Pixels,
    by_role,
    centred,
    fit_pair,
    make_pair,
    pair_by_name,
    read_pair,
    read_rgb8,
    read_srgb8,
)
from upscale_cli.evaluate.report import EvalReport, ImageScore, ModelReport, Problem, Step
from upscale_cli.evaluate.request import EvalRequest
from upscale_cli.evaluate.verb import evaluate, scores_films

__all__ = [
    "IMRESIZE",
    "EvalReport",
    "EvalRequest",
    "Files",
    "ImageScore",
    "ModelReport",
    "Pair",
    "Pixels",
    "Problem",
    "Step",
    "by_role",
    "centred",
    "evaluate",
    "fit_pair",
    "is_table",
    "make_pair",
    "pair_by_name",
    "read_pair",
    "read_rgb8",
    "read_srgb8",
    "read_table",
    "scores_films",
    "write_table",
]
