"""Which networks a picture goes through: families, rows and files, and native scales in a row."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale_cli import zoo
from upscale_cli.errors import UsageError, WeightsError
from upscale_cli.manifest import load_manifest
from upscale_cli.networks import Combination, Network, combine, find_networks, plan_stages
from upscale_cli.weights import formats


@pytest.mark.parametrize(
    ("wanted", "natives", "stages"),
    [
        (2, (2, 3, 4), (2,)),
        (2.5, (2, 3, 4), (3,)),
        (4, (2, 4), (4,)),
        (3, (2, 4), (4,)),
        (8, (2, 4), (2, 4)),  # the dear network last would see 16 times the pixels, first it sees 4 times
        (6, (2, 3, 4), (2, 3)),
        (16, (2, 4), (4, 4)),
        (5, (2,), (2, 2, 2)),
        (8, (4,), (4, 4)),
        (0.5, (2, 4), (2,)),
        (1, (4,), (4,)),
        (1, (1,), (1,)),
        (math.sqrt(2e6 / 5e5), (2, 4), (2,)),
        (2.0000000000000004, (2, 4), (2,)),
        (2.001, (2, 4), (4,)),
    ],
)
def test_plan_stages(wanted: float, natives: tuple[int, ...], stages: tuple[int, ...]) -> None:
    assert plan_stages(wanted, natives) == stages


@given(st.floats(0.1, 70), st.sets(st.sampled_from([2, 3, 4, 8]), min_size=1))
def test_no_other_row_of_networks_reaches_the_size_with_less_work(wanted: float, natives: set[int]) -> None:
    def work(chain: tuple[int, ...]) -> int:
        return sum(math.prod(chain[:place]) ** 2 for place in range(len(chain)))

    stages = plan_stages(wanted, natives)
    assert math.prod(stages) >= wanted * (1 - 1e-9)
    most = math.ceil(math.log(max(wanted, 2), min(natives))) + 1
    chains = itertools.chain.from_iterable(itertools.product(natives, repeat=count) for count in range(1, most + 1))
    if len(natives) ** most < 5000:
        assert work(stages) == min(work(chain) for chain in chains if math.prod(chain) >= wanted)


def test_a_model_that_does_not_enlarge_says_so() -> None:
    with pytest.raises(UsageError, match=r"cannot make it 2 times larger\. Use --scale 1"):
        plan_stages(2, [1])
    assert plan_stages(1, [1, 4]) == (1,)
    assert plan_stages(2, [1, 4]) == (4,)


# --- several models as one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "meant", "file_name"),
    [
        ({}, "span", "span"),
        ({"model": "edsr", "tta": True}, "edsr (tta)", "edsr-tta"),
        ({"ensemble": "edsr, lightweight-x2"}, "edsr,lightweight-x2", "edsr+lightweight-x2"),
        ({"ensemble": "a,b,c", "tta": True}, "a,b,c (tta)", "a+b+c-tta"),
        ({"interpolate": "edsr:my/other.pth:0.7"}, "edsr:my/other.pth:0.7", "edsr+other-0.7"),
        ({"interpolate": "a:b:1", "tta": True}, "a:b:1.0 (tta)", "a+b-1.0-tta"),
    ],
)
def test_what_the_options_mean(options: dict, meant: str, file_name: str) -> None:
    wanted = combine(**options)
    assert str(wanted) == meant
    assert wanted.file_name == file_name


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"model": "a", "ensemble": "b,c"}, "--model and --ensemble each say"),
        ({"model": "a", "interpolate": "b:c:0.5"}, "--model and --interpolate each say"),
        ({"ensemble": "a,b", "interpolate": "b:c:0.5"}, "--ensemble and --interpolate each say"),
        ({"ensemble": "a"}, "two models or more"),
        ({"ensemble": "a,,b"}, "Every model needs a name"),
        ({"interpolate": "a:b"}, "--interpolate a:b means nothing. Name two models"),
        ({"interpolate": "a:b:c:0.5"}, "means nothing"),
        ({"interpolate": "a:b:half"}, "means nothing"),
        ({"interpolate": "a:b:1.5"}, "share from 0 to 1"),
        ({"interpolate": "a:b:nan"}, "share from 0 to 1"),
        ({"model": ""}, "Every model needs a name"),
    ],
)
def test_options_that_mean_nothing(options: dict, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        combine(**options)
    assert complaint in str(caught.value)


def names(networks: tuple[Network, ...]) -> list[tuple[str, int]]:
    return [(network.name, network.scale) for network in networks]


def test_a_combination_has_the_scales_that_all_its_models_have() -> None:
    assert names(find_networks("lightweight")) == [("lightweight-x2", 2), ("lightweight-x3", 3), ("lightweight-x4", 4)]
    both = find_networks(Combination(("lightweight", "improved")))
    assert names(both) == [("lightweight-x2,improved-x2", 2), ("lightweight-x4,improved-x4", 4)]
    assert names(find_networks(Combination(("lightweight", "edsr-x4"), tta=True))) == [
        ("lightweight-x4,edsr-x4 (tta)", 4)
    ]
    with pytest.raises(UsageError, match="edsr-x2 has x2 and improved-x4 has x4: no scale in common"):
        find_networks(Combination(("edsr-x2", "improved-x4")))
    with pytest.raises(UsageError, match="Did you mean 'edsr'"):
        find_networks(Combination(("lightweight", "esdr")))


def test_every_combination_has_an_identity_of_its_own() -> None:
    """And that of one model alone is the hash of its weights, as in every journal so far."""
    plain = find_networks("edsr-x2")[0]
    assert plain.identity == load_manifest().find("edsr-x2").sha256
    assert plain == find_networks(Combination(("edsr-x2",)))[0]
    models = ("edsr-x2", "lightweight-x2")
    others = [
        Combination(models),
        Combination((*models, "improved-x2")),
        Combination(models, share=0.5),
        Combination(models, share=0.25),
    ]
    others += [Combination(each.models, share=each.share, tta=True) for each in (Combination(("edsr-x2",)), *others)]
    found = {find_networks(each)[0].identity for each in others} | {plain.identity}
    assert len(found) == len(others) + 1


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    formats.save(path, zoo.find("edsr/x2-tiny").build().state_dict(), {})
    (first,) = find_networks(path)
    assert (first.name, first.scale, first.combination.models) == (str(path), 2, (path,))
    assert names(find_networks(Combination((path, "edsr")))) == [(f"{path},edsr-x2", 2)]
    path.write_bytes(b"hello")
    with pytest.raises(WeightsError, match=r"own\.safetensors"):
        find_networks(path)


@pytest.mark.parametrize(
    ("models", "stages"),
    [
        (("bicubic", "lanczos"), ["bicubic-x8,lanczos-x8"]),  # native, where all have it
        (("bicubic", "lightweight"), ["bicubic-x2,lightweight-x2", "bicubic-x4,lightweight-x4"]),
        (("lightweight", "improved"), ["lightweight-x2,improved-x2", "lightweight-x4,improved-x4"]),
        (("improved-x2",), ["improved-x2"] * 3),
    ],
)
def test_eight_times(models: tuple[str, ...], stages: list[str]) -> None:
    natives = {network.scale: network for network in find_networks(Combination(models))}
    assert [natives[scale].name for scale in plan_stages(8, natives)] == stages
