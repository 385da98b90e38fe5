"""The options of the main command that are for films alone."""

from typing import Annotated

import typer

from upscale_cli.cli.options import model_names
from upscale_cli.manifest import LIGHT_MODEL
from upscale_cli.media.video.options import KEYFRAME_EVERY

_VIDEO = "Video"

CodecOpt = Annotated[
    str,
    typer.Option(
        "--codec",
        metavar="NAME",
        help="h264, hevc, av1, ffv1, prores, or a graphics card's: h264_nvenc, hevc_qsv, av1_amf. auto: hevc for more "
        "than 8 bits, av1 in webm, else h264, by the card where one does it here.",
        rich_help_panel=_VIDEO,
    ),
]
CrfOpt = Annotated[
    float | None,
    typer.Option("--crf", help="Quality, lower is better; looks lossless unless given.", rich_help_panel=_VIDEO),
]
PresetOpt = Annotated[
    str | None, typer.Option("--preset", help="Of the encoder: slow, veryfast, 6.", rich_help_panel=_VIDEO)
]
PixFmtOpt = Annotated[
    str | None,
    typer.Option("--pix-fmt", help="FFmpeg's name; nearest to the source unless given.", rich_help_panel=_VIDEO),
]
EncoderOpt = Annotated[
    list[str] | None,
    typer.Option("-e", "--encoder-option", metavar="KEY=VALUE", help="For the encoder itself.", rich_help_panel=_VIDEO),
]
DeinterlaceOpt = Annotated[
    bool, typer.Option("--no-deinterlace", help="Refuse interlaced videos.", rich_help_panel=_VIDEO)
]
HwaccelOpt = Annotated[
    str,
    typer.Option(
        "--hwaccel",
        metavar="NAME",
        help="Who decodes: cuda, qsv, amf, d3d11va, videotoolbox, vaapi; none is the processor; auto a card that gives "
        "the same frames.",
        rich_help_panel=_VIDEO,
    ),
]
StartOpt = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="Begin there: seconds, or 1:30.", rich_help_panel=_VIDEO),
]
EndOpt = Annotated[str | None, typer.Option("--end", metavar="TIME", help="End before that.", rich_help_panel=_VIDEO)]
FramesOpt = Annotated[
    bool,
    typer.Option("--frames", help="Films become numbered pictures, as -o shots/%06d.png does.", rich_help_panel=_VIDEO),
]
FpsOpt = Annotated[
    str | None,
    typer.Option("--fps", metavar="N", help="Numbered pictures, shots/%06d.png, as a film.", rich_help_panel=_VIDEO),
]
PreviewOpt = Annotated[
    bool,
    typer.Option("--preview", help="Only 3 seconds of the middle, as a file of its own.", rich_help_panel=_VIDEO),
]
SplitOpt = Annotated[
    bool,
    typer.Option(
        "--split",
        help="Left half as it was, right half enlarged, as a file of its own; also with --preview.",
        rich_help_panel=_VIDEO,
    ),
]
SkipStaticOpt = Annotated[
    float,
    typer.Option(
        "--skip-static",
        metavar="LEVELS",
        help="Infer tiles anew only where they changed by more, of 255; 0: at all.",
        rich_help_panel=_VIDEO,
    ),
]
TemporalOpt = Annotated[
    float,
    typer.Option("--temporal", help="Less flicker: from 0, every frame for itself, to 1.", rich_help_panel=_VIDEO),
]
KeyframeModelOpt = Annotated[
    str | None,
    typer.Option(
        "--keyframe-model",
        metavar="NAME",
        help=f"A stronger model for keyframes, carried to the frames between; -m is {LIGHT_MODEL} then unless given.",
        autocompletion=model_names,
        rich_help_panel=_VIDEO,
    ),
]
KeyframeEveryOpt = Annotated[
    int | None,
    typer.Option(
        "--keyframe-every",
        metavar="N",
        help=f"Frames from keyframe to keyframe of a scene; {KEYFRAME_EVERY} unless given.",
        rich_help_panel=_VIDEO,
    ),
]
PartFramesOpt = Annotated[
    int | None,
    typer.Option("--part-frames", metavar="N", help="Frames a part, the most a kill costs.", rich_help_panel=_VIDEO),
]
