"""The default command: options in, one RunRequest out, and what came of it on the screen."""

import difflib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from upscale_cli import render
from upscale_cli.cli import films
from upscale_cli.cli import options as opt
from upscale_cli.cli.piping import piped
from upscale_cli.errors import UpscaleError, UsageError, WeightsError
from upscale_cli.manifest import DEFAULT_MODEL, LIGHT_MODEL

if TYPE_CHECKING:
    from upscale_cli.jobs import Plan
    from upscale_cli.request import Existing, RunRequest


def run(  # one parameter an option
    ctx: typer.Context,
    paths: opt.PathsArg,
    recursive: opt.RecursiveOpt = False,
    max_pixels: opt.MaxPixelsOpt = None,
    allow_truncated: opt.TruncatedOpt = False,
    fast: opt.FastOpt = False,
    highlights: opt.HighlightsOpt = "clip",
    scale: opt.ScaleOpt = None,
    width: opt.WidthOpt = None,
    height: opt.HeightOpt = None,
    megapixels: opt.MegapixelsOpt = None,
    output: opt.OutputOpt = None,
    format: opt.FormatOpt = None,
    quality: opt.QualityOpt = None,
    depth: opt.DepthOpt = "keep",
    name: opt.NameOpt = "{stem}_x{scale}",
    skip_existing: opt.SkipOpt = False,
    overwrite: opt.OverwriteOpt = False,
    resume: opt.ResumeOpt = False,
    on_collision: opt.CollisionOpt = "rename",
    in_place: opt.InPlaceOpt = False,
    shard: opt.ShardOpt = None,
    strip_metadata: opt.StripOpt = False,
    codec: films.CodecOpt = "auto",
    crf: films.CrfOpt = None,
    preset: films.PresetOpt = None,
    pix_fmt: films.PixFmtOpt = None,
    encoder_option: films.EncoderOpt = None,
    no_deinterlace: films.DeinterlaceOpt = False,
    hwaccel: films.HwaccelOpt = "auto",
    start: films.StartOpt = None,
    end: films.EndOpt = None,
    frames: films.FramesOpt = False,
    fps: films.FpsOpt = None,
    preview: films.PreviewOpt = False,
    split: films.SplitOpt = False,
    skip_static: films.SkipStaticOpt = 0.0,
    temporal: films.TemporalOpt = 0.0,
    keyframe_model: films.KeyframeModelOpt = None,
    keyframe_every: films.KeyframeEveryOpt = None,
    part_frames: films.PartFramesOpt = None,
    model: opt.ModelOpt = None,
    ensemble: opt.EnsembleOpt = None,
    interpolate: opt.InterpolateOpt = None,
    tta: opt.TtaOpt = False,
    device: opt.DeviceOpt = "auto",
    precision: opt.PrecisionOpt = "auto",
    engine: opt.EngineOpt = "auto",
    tile: opt.TileOpt = 0,
    overlap: opt.OverlapOpt = None,
    strength: opt.StrengthOpt = 1.0,
    offline: opt.OfflineOpt = False,
    dry_run: opt.DryRunOpt = False,
    as_json: opt.JsonOpt = False,
    report: opt.ReportOpt = None,
    yes: opt.YesOpt = False,
    verbose: opt.VerboseOpt = False,
) -> None:
    """Make pictures and videos larger. The word `run` may be left out.

    Example: `upscale photos/ -o out -s 4`
    """
    _check_for_command(ctx, paths)
    from upscale_cli.media.image import DEFAULT_MAX_PIXELS
    from upscale_cli.media.job import RawOptions
    from upscale_cli.media.video.options import KEYFRAME_EVERY, VideoOptions, seconds_of
    from upscale_cli.networks import combine
    from upscale_cli.pipeline import PictureOptions
    from upscale_cli.request import NetworkOptions, RunRequest, Shard, Size

    size = {"scale": scale, "width": width, "height": height, "megapixels": megapixels}
    with piped(paths, output) as (words, folder):
        request = RunRequest(
            inputs=tuple(words),
            output=folder,
            size=None if set(size.values()) == {None} else Size(**size),
            network=NetworkOptions(
                model=combine(
                    model,
                    ensemble=ensemble,
                    interpolate=interpolate,
                    tta=tta,
                    usual=LIGHT_MODEL if keyframe_model else DEFAULT_MODEL,
                ),
                keyframe_model=combine(keyframe_model, tta=tta) if keyframe_model else None,
                device=device,
                precision=precision,
                backend=engine,
                tile_px=tile,
                overlap_px=overlap,
                strength=strength,
                offline=offline,
            ),
            picture=PictureOptions(
                depth=depth,
                quality=quality,
                max_pixels=DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels,
                allow_truncated=allow_truncated,
                keep_metadata=not strip_metadata,
                raw=RawOptions(fast=fast, highlights=highlights),
                video=VideoOptions(
                    codec=codec,
                    crf=crf,
                    preset=preset,
                    pix_fmt=pix_fmt,
                    encoder=tuple(encoder_option or ()),
                    deinterlace=not no_deinterlace,
                    hwaccel=hwaccel,
                    part_frames=part_frames,
                    start=seconds_of(start) if start else 0.0,
                    end=seconds_of(end) if end else None,
                    fps=fps,
                    preview=preview,
                    split=split,
                    skip_static=skip_static,
                    temporal=temporal,
                    keyframe_every=KEYFRAME_EVERY if keyframe_model and keyframe_every is None else keyframe_every,
                ),
            ),
            format=ending(format),
            frames=frames,
            name=name,
            recursive=recursive,
            existing=existing_rule(skip_existing, overwrite, resume),
            on_collision=on_collision,
            in_place=in_place,
            shard=None if shard is None else Shard.of(shard),
        )
        carry_out(request, dry_run=dry_run, as_json=as_json, report=report, yes=yes, verbose=verbose)


def carry_out(
    request: "RunRequest",
    *,
    dry_run: bool,
    as_json: bool,
    report: Path | None,
    yes: bool,
    verbose: bool,
    compare: bool = False,
) -> None:
    """Plan, show the plan or do it, and compare what was made with its source; ends by typer.Exit."""
    from upscale_cli import jobs
    from upscale_cli import run as verb

    with render.HeaderBar(quiet=as_json) as bar:
        plan = jobs.plan(request, progress=bar.update)
    for warning in plan.warnings if not (as_json and dry_run) else ():
        render.warning(warning)
    if dry_run:
        try:
            forecasts = verb.forecast(plan)
        except WeightsError as error:  # not here: what it would take is not known, what it would do is
            render.warning(str(error))
            forecasts = {}
        render.planned(plan, forecasts, as_json=as_json)
        raise typer.Exit(int(bool(plan.having("failed"))))
    if request.in_place and not yes:
        _ask(plan)
    sheet = report if report and report.suffix.lower() in (".html", ".htm") else None
    lines = None if sheet else report
    with render.RunDisplay(plan, as_json=as_json, verbose=verbose, report=lines) as display:
        result = verb.run(plan, tell=display.tell)
    code = result.exit_code
    if compare or sheet:
        from upscale_cli.render.before_after import write_compare, write_sheet  # with codecs, which others go without

        overwrite = request.existing == "overwrite"
        made = [file for file in result.files if file.state == "made"] if compare else []
        beside = [functools.partial(write_compare, file, request.picture, overwrite=overwrite) for file in made]
        beside += [functools.partial(write_sheet, result, sheet, request.picture)] if sheet else []
        for write in beside:
            try:
                write()
            except UpscaleError as error:  # the pictures are there all the same
                render.warning(str(error))
                code = code or error.exit_code
    render.ran(result, as_json=as_json)
    raise typer.Exit(code)


def _check_for_command(ctx: typer.Context, paths: list[str]) -> None:
    """UsageError for a first word that is no path but nearly a command."""
    word = paths[0]
    commands = getattr(ctx.find_root().command, "commands", {})
    near = difflib.get_close_matches(word, commands, n=1, cutoff=0.7)
    if near and not Path(word).exists():
        raise UsageError(f"There is no file or folder {word!r}. Did you mean the command {near[0]!r}?")


def ending(format: str | None) -> str | None:
    """An ending as the formats are listed by; `auto` is no wish."""
    ending = (format or "auto").lower().removeprefix(".")
    return None if ending == "auto" else ending


def existing_rule(skip: bool, overwrite: bool, resume: bool) -> "Existing":
    if skip + overwrite + resume > 1:
        raise UsageError("--skip-existing, --overwrite and --resume exclude each other. Choose one.")
    return "skip" if skip else "overwrite" if overwrite else "resume" if resume else "ask"


def _ask(plan: "Plan") -> None:
    """Before originals are replaced: the user's word for it, or --yes where nobody can be asked."""
    count = len(plan.having("todo"))
    if not count:
        return
    if not sys.stdin.isatty():
        raise UsageError("--in-place replaces the originals. Add --yes where nobody can be asked.")
    typer.confirm(
        f"Replace {count} picture{'s' * (count != 1)} by the enlargement? The originals are lost.", abort=True
    )
