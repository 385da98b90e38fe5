"""One input and what is to come of it, all but its name: the size, the format, and what that cannot hold.

Reads headers. Refuses names, folders and what is done already, which `jobs` decides.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from upscale_cli.errors import InputError
from upscale_cli.media.files import is_video, probe
from upscale_cli.media.formats import BECOMES, CONTAINERS, EXTENSIONS, can_hold, size_fault
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.job import Job
from upscale_cli.media.paths import Found, shown
from upscale_cli.numbered import Numbered
from upscale_cli.request import RunRequest, Size

MOST_PIXELS = 2**31  # of an output; the arrays of larger ones overflow in more than one codec


@dataclass(frozen=True, slots=True)
class Draft:
    """A picture whose output is decided but for its name."""

    found: Found
    info: ImageInfo
    size: Size
    """As asked for."""
    height: int
    width: int
    factor: float
    format: str
    suffix: str
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    title: str = ""
    """What it is called where that is not the source's own name."""
    encoder: str = ""
    """Of a film, which differs with the graphics cards there are."""
    as_pictures: bool = False
    """Of a film that is no picture itself: its frames become numbered pictures in a folder of its name."""


def draft(found: Found, request: RunRequest, size: Size, single: Path | None) -> Draft:
    """Read the header and decide size and format. InputError names what is wrong with the picture."""
    info = probe(found.path, request.picture)
    factor = size.factor(info.height, info.width)
    height, width = (max(1, round(side * factor)) for side in (info.height, info.width))
    if height * width > MOST_PIXELS:
        raise InputError(f"its output of {width} x {height} is more than fits into memory. Use a smaller size.")
    if request.in_place and found.path.is_symlink():
        raise InputError("is a link; --in-place replaces real files only. Name the file it points to.")
    format = info.format if request.in_place else BECOMES.get(info.format, info.format)
    plain = Draft(found, info, size, height, width, factor, format, found.path.suffix)
    if is_video(found.path):
        return _video(plain, request, single)
    ending = request.format or (ending_of(single) if single else "")
    if single and (ending in CONTAINERS or Numbered.of(single)):
        raise InputError(f"is a picture, which {shown(single.name)} is not for. Choose one of {', '.join(EXTENSIONS)}.")
    if ending in EXTENSIONS:
        return _in_format(replace(plain, format=EXTENSIONS[ending], suffix=f".{ending}"), request)
    reason = _objection(plain, request)
    if reason is None and (request.in_place or EXTENSIONS.get(ending_of(found.path)) == format):
        return plain
    if reason is not None and request.in_place:
        raise InputError(f"cannot stay {format}: {reason}. Leave out --in-place.")
    for known in (format, "PNG", "TIFF"):
        suffix = "." + next((ending for ending, name in EXTENSIONS.items() if name == known), "")
        other = replace(plain, format=known, suffix=suffix)
        if _objection(other, request) is None:
            return replace(other, notes=(f"{reason}: written as {known}",) if reason else ())
    raise InputError(f"its output of {width} x {height} fits no format. Use a smaller size.")


def _video(plain: Draft, request: RunRequest, single: Path | None) -> Draft:
    """The container that is asked for, or the source's own where it is written, or Matroska, which holds everything;
    or numbered pictures.
    """
    from upscale_cli.media.video.container import VideoInfo
    from upscale_cli.media.video.encoder import choose

    info, path = plain.info, plain.found.path
    assert isinstance(info, VideoInfo)
    ending = request.format or (ending_of(single) if single else "")
    rate = request.picture.video.rate
    source = Numbered.of(path)
    if source is None and rate is not None:
        raise InputError("is a film, which has times of its own. --fps is for numbered pictures: leave it out.")
    if source and request.in_place:
        raise InputError("is a film of numbered pictures. --in-place is for their folder.")
    as_film = ending in CONTAINERS or (rate is not None and not ending and not single)
    if request.frames or (single and Numbered.of(single)) or (source and not as_film):
        return _numbered(plain, request, single)
    if source and rate is None:
        raise InputError("how many of its pictures are a second is not known. Say --fps, such as --fps 25.")
    if single and ending not in CONTAINERS:
        raise InputError(f"is a video, which {shown(single.name)} is not for. Choose one of {', '.join(CONTAINERS)}.")
    if ending in CONTAINERS:
        plain = replace(plain, format=CONTAINERS[ending], suffix=f".{ending}")
    elif source:
        plain = replace(plain, format="MP4", suffix=".mp4")
    elif CONTAINERS.get(ending_of(path)) != info.format:
        if request.in_place:
            raise InputError(f"cannot stay {info.format}, which is not written. Leave out --in-place.")
        plain = replace(
            plain, format="MATROSKA", suffix=".mkv", notes=(f"{info.format} is not written: became MATROSKA",)
        )
    encoding = choose(info, Job(path, path, plain.format, plain.height, plain.width), request.picture)
    return replace(plain, losses=encoding.notes, encoder=encoding.encoder, title=source.title if source else "")


def _numbered(plain: Draft, request: RunRequest, single: Path | None) -> Draft:
    """The frames as pictures: in the format that is asked for, or the one they are in, or PNG."""
    known = next((ending for ending, name in EXTENSIONS.items() if name == plain.format), "png")
    ending = request.format or (ending_of(single) if single else known)
    if ending not in EXTENSIONS or ending == "gif":
        raise InputError(f"its frames cannot be {ending or 'files without ending'}. Choose png, tif or jpg.")
    wanted = replace(plain, format=EXTENSIONS[ending], suffix=f".{ending}")
    if fault := size_fault(wanted.format, wanted.width, wanted.height):
        raise InputError(fault)
    loss = can_hold(wanted.format, depth=_depth(plain.info, request), alpha=plain.info.alpha)
    return replace(wanted, losses=(loss,) if loss else (), as_pictures=Numbered.of(plain.found.path) is None)


def _in_format(draft: Draft, request: RunRequest) -> Draft:
    """The draft in the format the user wants; InputError where that would lose frames or cannot hold the size."""
    info = draft.info
    fault = can_hold(draft.format, animated=info.animated, pages=info.frames)
    if fault := fault or size_fault(draft.format, draft.width, draft.height):
        raise InputError(fault)
    loss = _objection(draft, request)
    return replace(draft, losses=(loss,) if loss else ())


def _objection(draft: Draft, request: RunRequest) -> str | None:
    """Why the draft's format cannot hold all of the picture."""
    info, format = draft.info, draft.format
    if format not in EXTENSIONS.values():
        return f"{format} is not written"
    loss = can_hold(format, depth=_depth(info, request), alpha=info.alpha, animated=info.animated, pages=info.frames)
    return (loss and loss.split(";")[0]) or size_fault(format, draft.width, draft.height)


def _depth(info: ImageInfo, request: RunRequest) -> int:
    return info.depth if request.picture.depth == "keep" else int(request.picture.depth)


def ending_of(path: Path) -> str:
    """`png` of `a.PNG`."""
    return path.suffix.lower().removeprefix(".")
