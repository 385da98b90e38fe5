"""From what the user asked for to a list of jobs: which pictures, networks and outputs, and what is done already.

Owns every decision that is made before work starts. Reads headers and journals; writes nothing and loads no network.
"""

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from upscale_cli.choice import Choice, Chooser
from upscale_cli.drafts import Draft, draft, ending_of
from upscale_cli.errors import InputError, OutputError, UsageError
from upscale_cli.journal import Journal, Stamp, results_in
from upscale_cli.media.formats import CONTAINERS, EXTENSIONS, RAW
from upscale_cli.media.image import ImageInfo
from upscale_cli.media.paths import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Listing,
    cannot_write,
    choose_targets,
    fill_template,
    find_pictures,
    shorten,
    shown,
    without_name,
)
from upscale_cli.networks import Chain, Combination, Network
from upscale_cli.numbered import Numbered
from upscale_cli.pipeline import Job
from upscale_cli.request import RunRequest, Size

State = Literal["todo", "done", "skipped", "failed"]

BYTES_PER_BYTE = {"JPEG": 0.15, "WEBP": 0.1, "AVIF": 0.1, "PNG": 0.7, "TIFF": 0.8} | dict.fromkeys(
    CONTAINERS.values(), 0.03
)
"""Of pixels, about, when written as a file; a photograph at usual quality."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input and what becomes of it."""

    source: Path
    state: State
    reason: str = ""
    notes: tuple[str, ...] = ()
    info: ImageInfo | None = None
    job: Job | None = None
    chain: Chain = field(default_factory=Chain)
    """The networks it goes through, behind its style."""
    style: str = ""
    folder: Path = Path()
    """Where the journal is that it is noted in."""
    settings: str = ""
    """Fingerprint for the journal."""
    losses: tuple[str, ...] = ()
    """What the wanted format cannot hold; said again, and better, by what writes it."""
    missing: str = ""
    """Of what an earlier run made: what the source promised and did not hold."""

    @property
    def through(self) -> str:
        """What it goes through, for people."""
        return " + ".join(filter(None, (self.style, str(self.chain))))

    @property
    def stages(self) -> tuple[Network, ...]:
        """Of the networks, those that all of it goes through."""
        return self.chain.stages


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done, decided."""

    request: RunRequest
    items: tuple[Item, ...]
    warnings: tuple[str, ...]
    others: tuple[Path, ...] = ()
    """Inputs of the other shards; no output may replace one."""

    def having(self, state: State) -> tuple[Item, ...]:
        """The items in one state."""
        return tuple(item for item in self.items if item.state == state)

    def journals(self) -> dict[Path, Journal]:
        """The journals of this plan's output folders, read now."""
        return {folder: Journal(folder, self.share) for folder in {item.folder for item in self.items if item.job}}

    @property
    def share(self) -> str:
        """What tells this run's journals and locks from those of other shards."""
        return self.request.shard.file_name if self.request.shard else ""


def plan(request: RunRequest, *, progress: Callable[[int, int], None] | None = None) -> Plan:
    """Decide everything: list the inputs, read their headers, choose networks, formats and names, ask the journals.

    `progress(done, total)` follows the reading of headers. Raises UsageError for a request that cannot mean anything
    or names no picture, OutputError for an output folder that cannot be written, WeightsError for an unsound weights
    file. What is wrong with one picture is that item's reason.
    """
    if request.picture.video.fps and not any(Numbered.of(Path(word)) for word in request.inputs):
        raise UsageError("--fps is for numbered pictures. Give them as one name, such as shots/%06d.png.")
    listing = find_pictures(
        request.inputs, recursive=request.recursive, leave_out=request.output, results_in=results_in
    )
    if not listing.pictures:
        raise UsageError(_nothing(request, listing))
    single = _single_output(request, len(listing.pictures))
    if request.lut and request.lut.suffix.lower() == ".cube" and len(listing.pictures) > 1:
        count = len(listing.pictures)
        raise UsageError(f"--lut {shown(request.lut)} is one file, but there are {count} pictures. Give it a folder.")
    if request.output is not None:
        reason = cannot_write(request.output.parent if single else request.output)
        if reason:
            raise OutputError(f"{reason}. Choose another output folder with -o.")
    model, strong = (
        None if each is None else Combination.of(each)
        for each in (request.network.model, request.network.keyframe_model)
    )
    chooser = Chooser(model, request.network.device, strong)
    size = request.size or Size(scale=chooser.usual_scale)
    entries: list[Item | Draft] = []
    for count, found in enumerate(listing.pictures, start=1):
        try:
            entries.append(draft(found, request, size, single))
        except InputError as error:
            entries.append(Item(found.path, "failed", without_name(str(error), found.path)))
        if progress:
            progress(count, len(listing.pictures))
    drafts = [entry for entry in entries if isinstance(entry, Draft)]
    if request.frames and drafts and all(entry.info.counted for entry in drafts):
        raise UsageError("--frames is for films, and none of these inputs is one.")
    if (
        drafts
        and request.format
        and EXTENSIONS.get(request.format, CONTAINERS.get(request.format)) not in {entry.format for entry in drafts}
    ):
        raise UsageError(
            f"--format {request.format} is for none of these inputs. Videos become one of {', '.join(CONTAINERS)}."
        )
    settled = iter(_settle(drafts, request, [chooser.choose(each) for each in drafts], single))
    items = [next(settled) if isinstance(entry, Draft) else entry for entry in entries]
    items += [
        Item(refused.path, "failed" if refused.failed else "skipped", refused.reason) for refused in listing.refused
    ]
    decided = decide(_shard(Plan(request, tuple(items), ())))
    return replace(decided, warnings=(*chooser.reasons(), *_warnings(decided, listing)))


def _shard(plan: Plan) -> Plan:
    """Every N-th input by the order of their names, which does not change with what is done already."""
    shard = plan.request.shard
    if shard is None:
        return plan
    sources = sorted((item.source for item in plan.items), key=os.fsencode)
    own = set(sources[shard.index - 1 :: shard.count])
    return replace(
        plan,
        items=tuple(item for item in plan.items if item.source in own),
        others=tuple(item.source for item in plan.items if item.job and item.source not in own),
    )


def decide(plan: Plan) -> Plan:
    """The plan with every job's state by what is on the disk now; asked again when the output folders are locked."""
    journals = plan.journals()
    sources = (*(item.source for item in plan.items if item.job), *plan.others)
    inputs = {key for source in sources if (key := _identity(source))}
    items = [
        _decide(item, item.job, journals[item.folder], plan.request, inputs) if item.job else item
        for item in plan.items
    ]
    return replace(plan, items=tuple(items))


def _single_output(request: RunRequest, pictures: int) -> Path | None:
    """The output file, where `-o` names one."""
    output = request.output
    if output is None or output.is_dir():
        return None
    ending = ending_of(output)
    if Numbered.of(output) and ending not in EXTENSIONS:
        raise UsageError(f"{shown(output)}: numbered pictures need the ending of a picture, such as .png.")
    if ending not in EXTENSIONS | CONTAINERS:
        if output.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
            known = ", ".join(EXTENSIONS | CONTAINERS)
            raise UsageError(f"{shown(output)}: {ending} cannot be written. Choose one of {known}, or a folder.")
        return None
    if pictures != 1:
        what = "the frames of one film" if Numbered.of(output) else "one file"
        raise UsageError(f"{shown(output)} is {what}, but there are {pictures} pictures. Give -o a folder.")
    formats = EXTENSIONS | CONTAINERS
    if request.format is not None and formats[request.format] != formats[ending]:
        raise UsageError(f"{shown(output)} is no {request.format} file. Leave out --format, or give -o a folder.")
    if request.template != request.usual_name:
        raise UsageError(f"{shown(output)} and --name both name the output. Leave one out.")
    return output


def _nothing(request: RunRequest, listing: Listing) -> str:
    """Why there is no picture to work on, and what may be meant."""
    if listing.refused:
        first = listing.refused[0]
        more = f" ({len(listing.refused) - 1} more like this)" if len(listing.refused) > 1 else ""
        return f"{shown(first.path)}: {first.reason}{more}. No picture was found."
    places = ", ".join(shown(word) for word in request.inputs)
    if listing.results:
        return f"{places}: all pictures are results of earlier runs. Name those to enlarge again."
    hint = f" -r enters its {_count(listing.folders, 'folder')}." if listing.folders else ""
    return f"{places}: no picture was found.{hint}"


def _settle(drafts: Sequence[Draft], request: RunRequest, choices: Sequence[Choice], single: Path | None) -> list[Item]:
    """Names without collisions, networks, and the fingerprint of all settings, for every draft."""
    style = request.network.style

    def target(index: int, addition: str) -> Path:
        wanted = drafts[index]
        path = wanted.found.path
        mark = "" if wanted.info.counted else request.picture.video.marks
        if single or request.in_place:
            chosen = single or path
            return chosen.with_stem(chosen.stem + mark)
        stem = fill_template(
            request.template,
            stem=(wanted.title or path.stem) + addition,
            model=choices[index].file_name,
            style=style.file_name if style else "",
            scale=wanted.factor,
            width=wanted.width,
            height=wanted.height,
        )
        folder = path.parent if request.output is None else request.output / wanted.found.below
        if wanted.as_pictures:
            return folder / shorten(stem + mark, "") / f"%06d{wanted.suffix}"
        return folder / shorten(stem + mark, wanted.suffix)

    targets = choose_targets([draft.found.path for draft in drafts], target, rule=request.on_collision)
    items = []
    for index, (wanted, path) in enumerate(zip(drafts, targets, strict=True)):
        source = wanted.found.path
        if path is None:
            reason = f"another picture becomes {shown(target(index, ''))} (--on-collision skip)"
            items.append(Item(source, "skipped", reason, info=wanted.info))
            continue
        chain = choices[index].chain(wanted.factor, film=not wanted.info.counted)
        renamed = path != target(index, "")
        note = (f"another picture has the same name: written as {shown(path.name)}",) if renamed else ()
        settings = _fingerprint(wanted, request, choices[index].networks, chain.keys)
        key = "" if wanted.info.counted else f"{_of_source(settings, source)} {wanted.encoder}"
        cube = _cube(request, wanted, path) if request.lut else None
        job = Job(source, path, wanted.format, wanted.height, wanted.width, key, cube)
        items.append(
            Item(
                source,
                "todo",
                notes=wanted.notes + note,
                info=wanted.info,
                job=job,
                chain=chain,
                style=style.name if style else "",
                folder=path.parent if request.output is None or single else request.output,
                settings=settings,
                losses=wanted.losses,
            )
        )
    return items


def _cube(request: RunRequest, wanted: Draft, target: Path) -> Path:
    """Where its table of colours goes: the file that is asked for, or named as its output, in folders as they are."""
    assert request.lut is not None
    if request.lut.suffix.lower() == ".cube":
        return request.lut
    return request.lut / wanted.found.below / f"{target.stem}.cube"


def _fingerprint(wanted: Draft, request: RunRequest, networks: Sequence[Network], keys: Sequence[Network]) -> str:
    """Of all that decides the output besides the input. Left out is what changes no picture: tiles, device, decoder."""
    network, picture = request.network, request.picture
    settings = {
        "networks": [(network.identity, network.scale) for network in networks],
        "strength": network.strength,
        "precision": network.precision,
        # As asked for, not in pixels: a picture replaced in place has other pixels, and is done all the same.
        "size": asdict(wanted.size),
        "format": wanted.format,
        "depth": picture.depth,
        "quality": picture.quality,
        "metadata": picture.keep_metadata,
    }
    if wanted.info.format == RAW:
        settings["raw"] = asdict(picture.raw)
    if network.style is not None:
        settings["style"] = [network.style.identity, network.style.kind, network.style.strength, bool(request.lut)]
        settings["assumed"] = picture.assumed.identity
    if not wanted.info.counted:
        settings["video"] = {name: value for name, value in asdict(picture.video).items() if name != "hwaccel"}
        settings["keyframes"] = [(network.identity, network.scale) for network in keys]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _of_source(settings: str, source: Path) -> str:
    """What the parts of a video are good for: these settings, and the source as it is."""
    try:
        stamp = Stamp.of(source)
    except OSError:
        return settings  # it is gone, which reading it will tell
    return f"{settings} {stamp.size} {stamp.mtime_ns}"


def _decide(item: Item, job: Job, journal: Journal, request: RunRequest, inputs: Collection[tuple[int, int]]) -> Item:
    """Whether the job is to be done, by what is at its target now."""
    target = shown(job.target)
    other = "--name" if request.output is None else "-o"
    if not request.in_place and _identity(job.target) in inputs:
        if _identity(job.target) == _identity(job.source):
            way_out = "Choose another -o or --name, or use --in-place to replace it."
            return replace(item, state="failed", reason=f"{target} is the picture itself. {way_out}")
        return replace(item, state="failed", reason=f"{target} is another input of this run. Choose another -o.")
    height, width = (item.info.height, item.info.width) if item.info else (0, 0)
    state = journal.state(job.source, job.target, item.settings, height=height, width=width)
    if state == "absent" or request.existing == "overwrite":
        return replace(item, state="todo", reason="")
    if state == "done":
        return replace(item, state="done", reason="done by an earlier run", missing=journal.missing(job.target))
    if request.existing == "skip":
        return replace(item, state="skipped", reason=f"{target} exists")
    if request.in_place:
        reason = "it was replaced by an earlier run with other settings. --overwrite enlarges that again."
        return replace(item, state="failed", reason=reason)
    if state == "changed input" or (state == "other settings" and request.existing == "resume"):
        return replace(item, state="todo", reason=state)
    if state == "other settings":
        reason = f"{target} exists, made with other settings. --resume makes it again; or choose another {other}."
    else:
        reason = f"{target} exists. Use --overwrite, --skip-existing, or choose another {other}."
    return replace(item, state="failed", reason=reason)


def _identity(path: Path) -> tuple[int, int] | None:
    """What is one for all names of a file: links of either kind, upper and lower case where the disk has them one.

    Of numbered pictures that of the first.
    """
    if numbered := Numbered.of(path):
        path = next(iter(numbered.files().values()), path)
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _warnings(plan: Plan, listing: Listing) -> Iterator[str]:
    if unheard := plan.request.network.unheard:
        verb = "is" if len(unheard) == 1 else "are"
        yield f"{' and '.join(unheard)} {verb} for networks: a table of colours is looked up by the processor, in fp32."
    pictures = sum(item.info is not None and item.info.counted for item in plan.items)
    if plan.request.network.keyframe_model and pictures:
        yield f"--keyframe-model is for films: {_count(pictures, 'picture')} without it."
    if plan.request.shard:
        count = len(listing.pictures) + len(listing.refused)
        yield f"shard {plan.request.shard}: {len(plan.items):,} of {_count(count, 'input')}."
    if listing.results:
        count = _count(listing.results, "result")
        yield f"{count} of earlier runs left out. Name them to enlarge them again."
    if listing.folders:
        yield f"{_count(listing.folders, 'folder')} not entered. -r enters them."
    places: dict[Path, float] = defaultdict(float)
    for item in plan.having("todo"):
        if item.job and item.info:
            values = item.job.height * item.job.width * (item.info.channels + item.info.alpha) * item.info.frames
            places[item.folder] += values * item.info.depth / 8 * BYTES_PER_BYTE.get(item.job.format, 1)
    for folder, needed in places.items():
        place = folder
        while not place.is_dir():
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > free:
            yield f"{shown(folder)}: about {needed / 1e6:,.1f} MB will be written, {free / 1e6:,.1f} MB are free."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
