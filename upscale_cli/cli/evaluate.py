"""`upscale eval`: options in, one EvalRequest out."""

from pathlib import Path
from typing import Annotated

import typer

from upscale_cli import render
from upscale_cli.cli import options as opt
from upscale_cli.errors import UsageError


def evaluate(
    made: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILM]", help="Films made already of that in --lr, or folders of such.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="High resolution: a folder of images or of films, or one; or a CSV of pairs."),
    ] = None,
    model: opt.ModelOpt = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models", metavar="A,B,...", help="Several in one table; a+b is an ensemble, a:b:0.7 a mixture."
        ),
    ] = None,
    ensemble: opt.EnsembleOpt = None,
    interpolate: opt.InterpolateOpt = None,
    tta: opt.TtaOpt = False,
    scale: Annotated[
        int | None, typer.Option("-s", "--scale", help="Native scale; a row or a file has its own.")
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option("--lr", help="Low resolution, paired by name; made by imresize without it. Films need no --data."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="Retouched pairs as papers score them: dpe, upe, 3dlut, full.",
        ),
    ] = "",
    expert: Annotated[
        str, typer.Option("--expert", help="For --protocol: A to E, of pairs named a0001_input and a0001_expertC.")
    ] = "C",
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="A,B,...",
            help="What to measure, or all; psnr_y,ssim_y,psnr_rgb, and of films flicker.",
        ),
    ] = None,
    crop_border: Annotated[
        int | None, typer.Option("--crop-border", metavar="PX", min=0, help="Not scored; the scale unless given.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, fp16, int8 or auto. Scores are taken in fp32 unless you ask.")
    ] = "fp32",
    engine: Annotated[opt.Backend, typer.Option("--engine", help="What runs the network.")] = "torch",
    device: Annotated[str, typer.Option("-d", "--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    tile_px: Annotated[int, typer.Option("-t", "--tile", help="Tile side in pixels; 0 is automatic.")] = 0,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write a row an image and model.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Also draw crops side by side: LR, models, HR.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="What --json printed earlier; worse scores fail.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="For --compare: in dB; a hundredth of it in SSIM and the like.")
    ] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", metavar="NAME=FILE", help="Weights of alexnet, inception or vgg16, for metrics."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never fetch weights.")] = False,
) -> None:
    """Score models: by PSNR and SSIM unless --metrics asks for others, with the protocol of every number.

    Of films also how they flicker beside their source, enlarged here by models or made already.

    Example: `upscale eval --models bicubic,lightweight,edsr -s 4 --data Set5`
    """
    from upscale_cli.evaluate import EvalRequest, scores_films
    from upscale_cli.evaluate import evaluate as score
    from upscale_cli.evaluate.compare import compare, read_baseline
    from upscale_cli.networks import combine, compete

    if models is not None and any(other is not None for other in (model, ensemble, interpolate)):
        raise UsageError("--models names all that is scored: leave out --model, --ensemble and --interpolate.")
    if models is not None:
        named = compete(models, tta=tta)
    else:
        none = made and model is None and ensemble is None and interpolate is None
        named = () if none else (combine(model, ensemble=ensemble, interpolate=interpolate, tta=tta),)
    request = EvalRequest(
        models=named,
        made=tuple(made or ()),
        data=data,
        scale=scale,
        lr=lr,
        protocol=protocol,
        expert=expert.upper(),
        metrics=tuple(word.strip() for word in (metrics or "").split(",") if word.strip()),
        crop_border=crop_border,
        device=device,
        precision=precision,
        backend=engine,
        tile_px=tile_px,
        offline=offline,
        encoders=_encoders(encoder or []),
    )
    if figure is not None:
        render.check_crops(figure)
        if protocol or scores_films(request):
            raise UsageError("--figure shows crops of pictures that were made larger. Leave it out.")
    earlier = None if baseline is None else read_baseline(baseline)
    with render.EvaluationBar(quiet=as_json) as bar:
        report = score(request, progress=bar.update)
    changes = () if earlier is None else compare(report, earlier, tolerance)
    render.evaluation(report, changes, as_json=as_json)  # first: a file that cannot be written must not cost the scores
    if csv_file is not None:
        render.write_scores(report, csv_file)
    if figure is not None:
        from upscale_cli.evaluate.exhibit import exhibits

        render.write_crops(exhibits(request, report), figure)
    raise typer.Exit(int(not report.whole or any(change.regressed for change in changes)))


def _encoders(words: list[str]) -> dict[str, Path]:
    """Of --encoder; UsageError for what is no NAME=FILE."""
    for word in words:
        if "=" not in word:
            raise UsageError(f"--encoder {word} means nothing. Name and file: --encoder vgg16=vgg16-397923af.pth")
    return {name: Path(file) for name, _, file in (word.partition("=") for word in words)}
