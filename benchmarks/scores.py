"""Scores of the manifest's rows, by the code of `upscale eval`, written into their rows.

Owns the two columns that every table shows: Set5 and BSD100. Rows that have weights and no scores yet by default; a row
that is named is scored again. Fetches weights that are not here.

    python benchmarks/scores.py --data FOLDER                  # a folder with Set5 and BSD100 in it
    python benchmarks/scores.py --data FOLDER realesrgan-x4
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from upscale_cli.errors import UpscaleError
from upscale_cli.evaluate import EvalRequest, evaluate
from upscale_cli.manifest import Entry, Score, load_manifest

MANIFEST = Path(__file__).parents[1] / "weights_manifest.json"
SETS = ("Set5", "BSD100")


def scores_of(entry: Entry, data: Path) -> list[Score]:
    """The mean scores of a row on every set, with the protocol they were taken by."""
    found: list[Score] = []
    for name in SETS:
        report = evaluate(EvalRequest(models=(entry.name,), data=data / name))
        mean = report.models[0].scores
        protocol = f"{report.low_resolution}; {report.protocol}; {report.models[0].precision}"
        found.append(
            Score(name, round(mean["psnr_y"], 3), round(mean["ssim_y"], 4), round(mean["psnr_rgb"], 3), protocol)
        )
        print(
            f"{entry.name:24} {name:8} {mean['psnr_y']:6.2f} {mean['ssim_y']:7.4f} {mean['psnr_rgb']:6.2f}", flush=True
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="rows of the manifest; those without scores by default")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds Set5 and BSD100")
    arguments = parser.parse_args()
    entries = [entry for entry in load_manifest(MANIFEST).entries if entry.source and entry.task == "upscale"]
    wanted = arguments.models or [entry.name for entry in entries if not entry.scores]
    for entry in entries:
        if entry.name in wanted:
            scores = [asdict(score) for score in scores_of(entry, arguments.data)]
            document = json.loads(MANIFEST.read_text("utf-8"))  # read again: this takes long, and others write it too
            document["models"][entry.name]["scores"] = scores
            MANIFEST.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main()
    except UpscaleError as error:
        raise SystemExit(str(error)) from error
