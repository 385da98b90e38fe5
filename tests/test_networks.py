"""Which networks a picture goes through: families, rows and files, and native scales in a row."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale_cli.errors import UsageError
from upscale_cli.networks import plan_stages


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
    with pytest.raises(UsageError, match="does not enlarge"):
        plan_stages(2, [1])
