"""Short videos made from the demo photographs, with sound, subtitles and whatever else a test asks for."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

ROOT = Path(__file__).parents[1]
SIZE = (64, 48)
TICKS = [0, 512, 1024, 1200, 2048, 2100, 3072, 4000, 4096, 6000, 6144, 7168]
"""Uneven times in 1/12800 s."""


def pan(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """A window that moves over a photograph, width by height, 8-bit RGB."""
    with Image.open(ROOT / "benchmarks" / "photos" / "spices.jpg") as image:
        photo = np.asarray(image.convert("RGB").resize((320, 214)))
    width, height = size
    return [
        np.ascontiguousarray(photo[index : index + height, 2 * index : 2 * index + width]) for index in range(count)
    ]


def clip(
    path: Path,
    frames: Sequence[np.ndarray] | None = None,
    *,
    times: Sequence[int] = TICKS,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    color: tuple[int, int, int, int] = (2, 2, 2, 0),
    rotation: int = 0,
    aspect: Fraction = Fraction(1),
    sounds: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
) -> Path:
    """A video with these frames at these times; `color` is primaries, transfer, matrix, range."""
    frames = pan(len(times)) if frames is None else frames
    with av.open(str(path), "w") as out:
        out.metadata["title"] = "A film"
        told = {"crf": "10"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=25, options=told | dict(options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = pix_fmt, Fraction(1, 12800)
        context = stream.codec_context
        context.time_base = Fraction(1, 12800)
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = color
        context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        tracks = [_track(out, language) for language in sounds]
        for pixels, time in zip(frames, times, strict=True):
            deep = pixels.dtype == np.uint16
            picture = VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")
            matrix = {1: "ITU709", 6: "ITU601", 9: 9}.get(color[2], "ITU601")
            picture = picture.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=color[3] or 1)
            picture.pts, picture.time_base = time, Fraction(1, 12800)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            _sound(out, track, 300 * (number + 1))
    return path


def _track(out, language: str):  # type: ignore[no-untyped-def]
    track = out.add_stream("aac", rate=8000)
    track.metadata["language"] = language
    return track


def _sound(out, track, hertz: int) -> None:  # type: ignore[no-untyped-def]
    for block in range(5):
        samples = np.sin(np.arange(block * 1024, (block + 1) * 1024) * hertz * 2 * np.pi / 8000).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 8000, block * 1024, Fraction(1, 8000)
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def rich(path: Path, film: Path) -> Path:
    """The streams of a film in Matroska, with subtitles, a font, chapters and dispositions."""
    with av.open(str(film)) as source, av.open(str(path), "w") as out:
        copies = {}
        out.metadata.update(source.metadata)
        for stream in source.streams:
            copies[stream.index] = out.add_stream_from_template(stream, opaque=True)
            copies[stream.index].metadata.update({"language": stream.metadata.get("language", "und")})
        copies[2].disposition = av.stream.Disposition.comment
        text = out.add_mux_stream("srt")
        text.time_base, text.metadata["language"] = Fraction(1, 1000), "fra"
        out.add_attachment("font.ttf", "font/ttf", b"no font but bytes")
        out.set_chapters(
            [
                {"id": 1, "start": 0, "end": 250, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
                {"id": 2, "start": 250, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
            ]
        )
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux_one(packet)
        words = av.Packet(b"Hello <i>there</i>")
        words.stream, words.time_base, words.pts, words.dts, words.duration = text, Fraction(1, 1000), 100, 100, 300
        words.is_keyframe = True
        out.mux_one(words)
    return path


def times_of(path: Path) -> list[Fraction]:
    """When every frame is shown, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]  # type: ignore[operator]


def packets_of(path: Path, kind: str, number: int = 0) -> list[tuple[bytes, int | None]]:
    """Bytes and times of the packets of one stream, times in milliseconds."""
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        found = [packet for packet in container.demux(stream) if packet.size]
        return [(bytes(packet), round((packet.pts or 0) * packet.time_base * 1000)) for packet in found]


def pictures_of(path: Path) -> list[np.ndarray]:
    """Every frame as it is stored, its planes one under the other."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]
