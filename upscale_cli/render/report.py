"""The report folder of a training: curves, the best and worst pictures, settings, facts, and a card for the hub."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from upscale_cli.errors import OutputError
from upscale_cli.render.curves import draw_curves

if TYPE_CHECKING:
    from upscale_cli.train.verb import TrainReport

NAME = "report"


def write_report(report: "TrainReport") -> Path:
    """Write it beside the weights, in place of an older one; OutputError, and the older one whole, if that fails."""
    from upscale_cli.render.triptych import draw_triptych  # with OpenCV, which other commands need not wait for
    from upscale_cli.train.card import card, write_facts
    from upscale_cli.train.config import as_toml

    folder = report.weights.parent / NAME
    part = folder.with_name(f".{NAME}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        draw_curves({report.facts.variant: report.history}, part / "curves.png")
        verdict = report.verdict
        for kind, samples in (("best", verdict.best), ("worst", verdict.worst)) if verdict else ():
            for index, sample in enumerate(samples, 1):
                draw_triptych(sample).save(part / f"{kind}-{index}.png")
        (part / "config.toml").write_text(as_toml(report.config), "utf-8")
        write_facts(report.facts, part)
        (part / "README.md").write_text(card(report.facts, name=report.facts.variant.replace("/", "-")), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}. The weights are whole in {report.weights}; free some space "
            "and repeat the command with --resume."
        ) from error
    return folder
