"""What people and programs see: progress, lines, tables, JSON. The only room that prints what a verb returns.

Results go to standard output, progress and errors to standard error. Names are shown on one line whatever is in them,
and never read as markup. Reads and decides nothing.
"""

from upscale_cli.render.bench import BenchStatus, benched, seams
from upscale_cli.render.comparison import comparison
from upscale_cli.render.crops import check_crops, write_crops
from upscale_cli.render.figure import check_figure, draw_bench
from upscale_cli.render.pictures import HeaderBar, RunDisplay, planned, ran
from upscale_cli.render.preparing import PreparingBar, prepared, prepared_fivek
from upscale_cli.render.report import write_report
from upscale_cli.render.scores import EvaluationBar, evaluation, write_scores
from upscale_cli.render.screen import WIDE, devices, error, seconds, warning
from upscale_cli.render.training import TrainingBar, training

__all__ = [
    "WIDE",
    "BenchStatus",
    "EvaluationBar",
    "HeaderBar",
    "PreparingBar",
    "RunDisplay",
    "TrainingBar",
    "benched",
    "check_crops",
    "check_figure",
    "comparison",
    "devices",
    "draw_bench",
    "error",
    "evaluation",
    "planned",
    "prepared",
    "prepared_fivek",
    "ran",
    "seams",
    "seconds",
    "training",
    "warning",
    "write_crops",
    "write_report",
    "write_scores",
]
