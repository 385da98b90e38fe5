"""`upscale enhance`: options in, one RunRequest with a style out; the main command's own way from there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale_cli.cli import options as opt
from upscale_cli.cli.piping import piped
from upscale_cli.cli.run import carry_out, ending, existing_rule
from upscale_cli.errors import UsageError

if TYPE_CHECKING:
    from upscale_cli.styles import Style

DEFAULT_STYLE = "expert-c"


def _list_styles(wanted: bool) -> None:
    if not wanted:
        return
    from upscale_cli.styles import styles, way_to_train

    for entry in styles():
        network = entry.variant.partition("/")[0]
        state = f"{entry.status}: {way_to_train(entry)}" if not entry.usable else entry.status
        typer.echo(f"{entry.style}  {network:<16}  {state}")
    raise typer.Exit


def enhance(  # one parameter an option
    paths: opt.PathsArg,
    recursive: opt.RecursiveOpt = False,
    max_pixels: opt.MaxPixelsOpt = None,
    allow_truncated: opt.TruncatedOpt = False,
    fast: opt.FastOpt = False,
    highlights: opt.HighlightsOpt = "clip",
    assume_profile: opt.AssumeProfileOpt = "srgb",
    style: opt.StyleOpt = None,
    network: opt.StyleNetworkOpt = "lut3d",
    strength: opt.StyleStrengthOpt = 1.0,
    apply_lut: opt.ApplyLutOpt = None,
    lut: opt.LutOpt = None,
    compare: opt.CompareOpt = False,
    list_styles: Annotated[
        bool,
        typer.Option("--list-styles", help="Show the styles there are.", callback=_list_styles, is_eager=True),
    ] = False,
    model: opt.UpscaleModelOpt = None,
    scale: opt.UpscaleScaleOpt = None,
    width: opt.WidthOpt = None,
    height: opt.HeightOpt = None,
    megapixels: opt.MegapixelsOpt = None,
    output: opt.OutputOpt = None,
    format: opt.FormatOpt = None,
    quality: opt.QualityOpt = None,
    depth: opt.DepthOpt = "keep",
    name: opt.StyledNameOpt = None,
    skip_existing: opt.SkipOpt = False,
    overwrite: opt.OverwriteOpt = False,
    resume: opt.ResumeOpt = False,
    on_collision: opt.CollisionOpt = "rename",
    in_place: opt.InPlaceOpt = False,
    shard: opt.ShardOpt = None,
    strip_metadata: opt.StripOpt = False,
    device: opt.DeviceOpt = "auto",
    precision: opt.PrecisionOpt = "auto",
    engine: opt.EngineOpt = "auto",
    tile: opt.TileOpt = 0,
    overlap: opt.OverlapOpt = None,
    offline: opt.OfflineOpt = False,
    dry_run: opt.DryRunOpt = False,
    as_json: opt.JsonOpt = False,
    report: opt.ReportOpt = None,
    yes: opt.YesOpt = False,
    verbose: opt.VerboseOpt = False,
) -> None:
    """Give photographs the look of an expert's retouch, and enlarge them in the same run if wanted.

    Example: `upscale enhance photos/ -o out --style expert-c`
    """
    from upscale_cli.manifest import DEFAULT_MODEL
    from upscale_cli.media.colorspace import Assumed
    from upscale_cli.media.image import DEFAULT_MAX_PIXELS
    from upscale_cli.media.job import RawOptions
    from upscale_cli.networks import combine
    from upscale_cli.pipeline import PictureOptions
    from upscale_cli.request import NetworkOptions, RunRequest, Shard, Size

    size = {"scale": scale, "width": width, "height": height, "megapixels": megapixels}
    sized = set(size.values()) != {None}
    if model is None and sized and (scale is None or scale > 1):
        model = DEFAULT_MODEL
    with piped(paths, output) as (words, folder):
        request = RunRequest(
            inputs=tuple(words),
            output=folder,
            size=Size(**size) if sized else None,
            network=NetworkOptions(
                model=None if model is None else combine(model),
                style=_style(style, network, strength, apply_lut),
                device=device,
                precision=precision,
                backend=engine,
                tile_px=tile,
                overlap_px=overlap,
                offline=offline,
            ),
            picture=PictureOptions(
                depth=depth,
                quality=quality,
                max_pixels=DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels,
                allow_truncated=allow_truncated,
                keep_metadata=not strip_metadata,
                assumed=Assumed.of(assume_profile),
                raw=RawOptions(fast=fast, highlights=highlights),
            ),
            format=ending(format),
            name=name,
            recursive=recursive,
            existing=existing_rule(skip_existing, overwrite, resume),
            on_collision=on_collision,
            in_place=in_place,
            shard=None if shard is None else Shard.of(shard),
            lut=lut,
        )
        carry_out(request, dry_run=dry_run, as_json=as_json, report=report, yes=yes, verbose=verbose, compare=compare)


def _style(words: str | None, network: str, strength: float, cube: Path | None) -> "Style":
    from upscale_cli.styles import cube_style, find_style

    if cube is not None and words is not None:
        raise UsageError("--style and --apply-lut each say what becomes of the colours. Choose one.")
    if cube is not None:
        return cube_style(cube, strength=strength)
    return find_style(words or DEFAULT_STYLE, network=network, strength=strength)
