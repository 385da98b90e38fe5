"""A finished film held against what it was meant to be: what its container says of colour, shape, turn and length."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from upscale_cli.media.video.encoder import Encoding

_SLACK_SECONDS = Fraction(1, 10)  # by which muxers round a length


def differences(made: Path, encoding: Encoding, *, seconds: Fraction) -> Iterator[str]:
    """In a line each what was not written as it was meant; `seconds` is how long it is."""
    try:
        with av.open(f"file:{made}") as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream), None)
            length = stream.duration and stream.duration * (stream.time_base or 0)
            aspect = stream.sample_aspect_ratio or Fraction(1)
    except (FFmpegError, OSError, IndexError) as error:
        yield f"what was written cannot be read again ({error})"
        return
    if frame is None:
        yield "no frame of what was written can be decoded"
        return
    color = encoding.color
    written = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range or 1)
    for what, is_, meant in (
        *zip(
            ("colour primaries", "transfer", "matrix", "range"),
            written,
            (color.primaries, color.transfer, color.matrix, 0 if encoding.pixels.rgb else color.range),
            strict=True,
        ),
        ("turn", frame.rotation, 0),
    ):
        # What is not said aloud may be said by the encoder, which knows no better.
        if is_ != meant and meant not in (0, 2):
            yield f"its {what} should be {meant}, and the file says {is_}"
    if aspect != encoding.info.sample_aspect and encoding.muxer in ("mp4", "mov"):
        yield f"its pixel aspect should be {encoding.info.sample_aspect}, and the file says {aspect}"
    if length and abs(length - seconds) > _SLACK_SECONDS:
        yield f"it should last {float(seconds):.2f} s, and the file says {float(length):.2f}"
