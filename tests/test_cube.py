"""Files of colour tables: what is written is read back, what others write is understood, what is none is named."""

from pathlib import Path

import numpy as np
import pytest

from upscale_cli.cube import Cube, read_cube, write_cube
from upscale_cli.errors import InputError, OutputError

RESOLVE = """# by another program
TITLE "warm"
LUT_3D_SIZE 2
DOMAIN_MIN 0 0 0
DOMAIN_MAX 1 1 2

0 0 0
1 0 0
0 1 0
1 1 0
0 0 1
1 0 1
0 1 1
1 1 0.5
"""


def text(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).random((5, 5, 5, 3), np.float32)
    write_cube(tmp_path / "new" / "a.cube", Cube(colors, (0, 0, 0), (1, 2, 1)), title='a "b"')
    cube = read_cube(tmp_path / "new" / "a.cube")
    assert cube.colors == pytest.approx(colors, abs=1e-7)
    assert (cube.low, cube.high) == ((0, 0, 0), (1, 2, 1))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.cube"]


def test_red_runs_fastest(tmp_path: Path) -> None:
    cube = read_cube(text(tmp_path / "a.cube", "\ufeff" + RESOLVE.replace("\n", "\r\n")))
    assert cube.colors[0, 0, 1].tolist() == [1, 0, 0]  # [blue][green][red]
    assert cube.colors[1, 0, 0].tolist() == [0, 0, 1]
    assert cube.high == (1, 1, 2)
    write_cube(tmp_path / "b.cube", cube, title="b")
    lines = (tmp_path / "b.cube").read_text().splitlines()
    assert lines[:4] == ['TITLE "b"', "LUT_3D_SIZE 2", "DOMAIN_MIN 0.0 0.0 0.0", "DOMAIN_MAX 1.0 1.0 2.0"]
    assert lines[5] == "1.0000000 0.0000000 0.0000000"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("LUT_1D_SIZE 2\n0 0 0\n1 1 1\n", "one dimension"),
        ("LUT_3D_SIZE 2\n0 0 0\n", "has 1 colours where 2.3 = 8 belong"),
        (RESOLVE + "1 1 1\n", "has 9 colours"),
        (RESOLVE.replace("0.5", "nan"), "no numbers"),
        (RESOLVE.replace("DOMAIN_MAX 1 1 2", "DOMAIN_MAX 0 1 2"), "not below"),
        (RESOLVE.replace("1 1 0.5", "1 1 half"), "line 14"),
        (RESOLVE.replace("LUT_3D_SIZE 2", "LUT_3D_SIZE 9999"), "no LUT_3D_SIZE"),
        ("", "no LUT_3D_SIZE"),
        ("GIF89a", "line 1"),
    ],
)
def test_what_is_no_table_is_named(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.cube.*{said}"):
        read_cube(text(tmp_path / "a.cube", content))


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_cube(tmp_path / "a.cube")
    (tmp_path / "a.cube").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no text"):
        read_cube(tmp_path / "a.cube")
    with pytest.raises(OutputError, match=r"a\.cube.*cannot be written"):
        write_cube(tmp_path / "a.cube" / "b.cube", Cube(np.zeros((2, 2, 2, 3), np.float32)), title="")
