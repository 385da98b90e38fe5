"""The options of the main command, and the other names under which users of similar programs know them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from upscale_cli.manifest import DEFAULT_MODEL

ALIASES = {
    "-n": ["--model"],
    "--model-name": ["--model"],
    "--model-path": ["--model"],
    "--outscale": ["--scale"],
    "--tile-pad": ["--overlap"],
    "--ext": ["--format"],
    "--fp32": ["--precision", "fp32"],
    "--self-ensemble": ["--tta"],
    "-i": [],
    "--input": [],
}
"""Other names of an option; an empty list leaves only the value, which is then a path."""

Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Backend = Literal["auto", "torch", "openvino"]
Depth = Literal["keep", "8", "16"]
Highlights = Literal["clip", "blend", "rebuild"]
StyleNetwork = Literal["lut3d", "enhance-residual"]
Collision = Literal["rename", "skip", "error"]

_INPUT, _SIZE, _OUTPUT, _NETWORK, _SCREEN = "Input", "Size", "Output", "Network", "Report"
_STYLE = "Style"


class CommandWithAliases(TyperCommand):
    """Takes the other names, and underscores for hyphens in long options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(known_names(args)))


def known_names(args: Iterable[str]) -> Iterator[str]:
    """The arguments with every alias as this program calls it; what follows `--` is left alone."""
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            yield from (arg, *rest)
            return
        name, equals, value = arg.partition("=")
        if not name.startswith("-"):
            yield arg
            continue
        if name.startswith("--"):
            name = name.replace("_", "-")
        if name in ALIASES:
            yield from ALIASES[name]
            yield from [value] * bool(equals)
        else:
            yield name + equals + value


def model_names(incomplete: str) -> list[str]:
    from upscale_cli.manifest import load_manifest

    names = {name for entry in load_manifest().entries for name in (entry.model, entry.name)}
    return sorted(name for name in names if name.startswith(incomplete))


def _style_names(incomplete: str) -> list[str]:
    from upscale_cli.styles import styles

    names = dict.fromkeys(entry.style for entry in styles() if entry.style)
    return [name for name in names if name.startswith(incomplete)]


PathsArg = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH", help="Pictures, videos, folders, or patterns such as 'photos/*.jpg'; - is standard input."
    ),
]
OutputOpt = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="A folder, or for one input a file, or - for standard output. Without it: beside the input.",
        rich_help_panel=_OUTPUT,
    ),
]
ModelOpt = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help=f"A model, one row of `upscale models list`, a weights file, or auto; {DEFAULT_MODEL} unless given.",
        autocompletion=model_names,
        rich_help_panel=_NETWORK,
    ),
]
EnsembleOpt = Annotated[
    str | None,
    typer.Option(
        "--ensemble",
        metavar="A,B,...",
        help="Average the pictures of several models.",
        rich_help_panel=_NETWORK,
    ),
]
InterpolateOpt = Annotated[
    str | None,
    typer.Option(
        "--interpolate",
        metavar="A:B:SHARE",
        help="Mix two checkpoints of one network: (1 - SHARE) x A + SHARE x B, SHARE from 0 to 1.",
        rich_help_panel=_NETWORK,
    ),
]
TtaOpt = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average over all 8 flips and turns of the picture: a little better, 8 times slower.",
        rich_help_panel=_NETWORK,
    ),
]
ScaleOpt = Annotated[
    float | None,
    typer.Option(
        "-s",
        "--scale",
        help="Factor, 2 unless a size is given (1 for a model that only restores); 2.5 will do.",
        rich_help_panel=_SIZE,
    ),
]
WidthOpt = Annotated[
    int | None, typer.Option("--width", metavar="PX", help="Width of every output.", rich_help_panel=_SIZE)
]
HeightOpt = Annotated[
    int | None, typer.Option("--height", metavar="PX", help="Height of every output.", rich_help_panel=_SIZE)
]
MegapixelsOpt = Annotated[
    float | None,
    typer.Option("--megapixels", metavar="MP", help="Million pixels of every output.", rich_help_panel=_SIZE),
]
TileOpt = Annotated[
    int,
    typer.Option(
        "-t", "--tile", metavar="PX", help="Most pixels a tile's side has; 0 is automatic.", rich_help_panel=_NETWORK
    ),
]
OverlapOpt = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        metavar="PX",
        help="Pixels that tiles share; as the network needs unless given.",
        rich_help_panel=_NETWORK,
    ),
]
PrecisionOpt = Annotated[
    Precision, typer.Option("--precision", help="Number format of the network.", rich_help_panel=_NETWORK)
]
EngineOpt = Annotated[
    Backend, typer.Option("--engine", help="What runs the network; auto is the fastest here.", rich_help_panel=_NETWORK)
]
DeviceOpt = Annotated[
    str,
    typer.Option(
        "-d",
        "--device",
        help="auto, cpu, cuda, cuda:N or mps; cuda:0,cuda:1 or cuda:all for several. See `upscale devices`.",
        rich_help_panel=_NETWORK,
    ),
]
StrengthOpt = Annotated[
    float,
    typer.Option("--strength", help="From 0, plain interpolation, to 1, the network alone.", rich_help_panel=_NETWORK),
]
StyleOpt = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="expert-a to expert-e, a mixture (expert-a:0.3,expert-c:0.7), or a weights file; expert-c unless given.",
        autocompletion=_style_names,
        rich_help_panel=_STYLE,
    ),
]
StyleNetworkOpt = Annotated[
    StyleNetwork,
    typer.Option(
        "--network",
        help="Whose style: lut3d gives the whole picture one table of colours, enhance-residual retouches each place.",
        rich_help_panel=_STYLE,
    ),
]
StyleStrengthOpt = Annotated[
    float,
    typer.Option("--strength", help="From 0, the picture as it is, to 1, the style alone.", rich_help_panel=_STYLE),
]
ApplyLutOpt = Annotated[
    Path | None,
    typer.Option("--apply-lut", metavar="FILE.cube", help="A LUT of sRGB in place of a style.", rich_help_panel=_STYLE),
]
AssumeProfileOpt = Annotated[
    str,
    typer.Option(
        "--assume-profile",
        metavar="srgb|linear|FILE.icc",
        help="Colours of pictures that carry no profile; linear is light as it is, as in some 16-bit TIFFs.",
        rich_help_panel=_INPUT,
    ),
]
LutOpt = Annotated[
    Path | None,
    typer.Option(
        "--lut",
        metavar="OUT.cube",
        help="Write the LUT of the picture too, from sRGB to sRGB; of several pictures, into this folder.",
        rich_help_panel=_STYLE,
    ),
]
CompareOpt = Annotated[
    bool,
    typer.Option(
        "--compare", help="Also write a picture split into before and after, NAME_compare.jpg.", rich_help_panel=_STYLE
    ),
]
UpscaleModelOpt = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help=f"Enlarge with this model afterwards; {DEFAULT_MODEL} where only a size is given.",
        autocompletion=model_names,
        rich_help_panel=_SIZE,
    ),
]
UpscaleScaleOpt = Annotated[
    float | None,
    typer.Option("-s", "--scale", help="Factor; the size stays unless it or a model is given.", rich_help_panel=_SIZE),
]
StyledNameOpt = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Output name of {stem} {style} {model} {scale} {width} {height}, without ending; {stem}_{style} unless "
        "given.",
        rich_help_panel=_OUTPUT,
    ),
]
OfflineOpt = Annotated[bool, typer.Option("--offline", help="Never fetch weights.", rich_help_panel=_NETWORK)]
FormatOpt = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        help="jpg, png, tif, webp, avif, bmp, gif; mp4, mov, mkv, webm for videos; the input's own unless given.",
        rich_help_panel=_OUTPUT,
    ),
]
QualityOpt = Annotated[
    int | None,
    typer.Option("-q", "--quality", help="1 to 100, for jpg, webp and avif.", rich_help_panel=_OUTPUT),
]
FastOpt = Annotated[
    bool,
    typer.Option(
        "--fast", "--half-size", help="Develop RAW at half its width and height: a preview.", rich_help_panel=_INPUT
    ),
]
HighlightsOpt = Annotated[
    Highlights,
    typer.Option("--highlights", help="What becomes of RAW where a colour is at its end.", rich_help_panel=_INPUT),
]
DepthOpt = Annotated[Depth, typer.Option("--depth", help="Bits of each value.", rich_help_panel=_OUTPUT)]
NameOpt = Annotated[
    str,
    typer.Option(
        "--name",
        help="Output name of {stem} {model} {scale} {width} {height}, without ending.",
        rich_help_panel=_OUTPUT,
    ),
]
RecursiveOpt = Annotated[
    bool, typer.Option("-r", "--recursive", help="Enter the folders in a folder.", rich_help_panel=_INPUT)
]
SkipOpt = Annotated[
    bool, typer.Option("--skip-existing", help="Skip pictures whose output exists.", rich_help_panel=_OUTPUT)
]
OverwriteOpt = Annotated[bool, typer.Option("--overwrite", help="Make every output again.", rich_help_panel=_OUTPUT)]
ResumeOpt = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Also replace what an earlier run made with other settings. What is done is always skipped.",
        rich_help_panel=_OUTPUT,
    ),
]
CollisionOpt = Annotated[
    Collision,
    typer.Option("--on-collision", help="When two pictures would become one file.", rich_help_panel=_OUTPUT),
]
InPlaceOpt = Annotated[
    bool, typer.Option("--in-place", help="Replace every picture by its enlargement.", rich_help_panel=_OUTPUT)
]
StripOpt = Annotated[
    bool,
    typer.Option(
        "--strip-metadata", help="Leave out EXIF, XMP and the like; the colour profile stays.", rich_help_panel=_OUTPUT
    ),
]
ShardOpt = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="K/N", help="Do the K-th of N shares, each by a run of its own.", rich_help_panel=_INPUT
    ),
]
MaxPixelsOpt = Annotated[
    int | None,
    typer.Option("--max-pixels", help="Refuse larger pictures, 200 million unless given.", rich_help_panel=_INPUT),
]
TruncatedOpt = Annotated[
    bool,
    typer.Option("--allow-truncated", help="Salvage what a truncated file holds.", rich_help_panel=_INPUT),
]
DryRunOpt = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.", rich_help_panel=_SCREEN)]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_SCREEN)]
ReportOpt = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write one JSON line a picture; or, as FILE.html, all of them before and after.",
        rich_help_panel=_SCREEN,
    ),
]
YesOpt = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.", rich_help_panel=_SCREEN)]
VerboseOpt = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say of every picture how it was made, or why not.", rich_help_panel=_SCREEN),
]
