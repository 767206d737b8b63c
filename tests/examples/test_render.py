"""The picture: what its front page promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import programs
import pytest

pytestmark = pytest.mark.usefixtures("programs")

RENDER = Path(__file__).parents[2] / "examples" / "render.py"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """The module, freshly imported."""
    spec = importlib.util.spec_from_file_location("render", RENDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_that_take_their_process_along_are_drawn_again_and_the_picture_is_the_same(render: ModuleType) -> None:
    """It is what the plain function draws, byte for byte."""
    picture = render.Picture(40, 12, 50)
    rows, died, empty = render.render(picture, crash=0.3, seed=1)

    assert [render.draw(picture, y, "") for y in range(12)] == rows
    assert died > 0
    assert empty == []


def test_a_row_that_never_ends_is_ended_by_its_limit(render: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """It stays empty, the error names the limit, and all others are there."""
    picture = render.Picture(40, 6, 50)
    rows, died, empty = render.render(picture, runaway=2, cpu_time=0.2)

    assert (died, empty, rows[2]) == (0, [2], bytes(40))
    assert [render.draw(picture, y, "") for y in (0, 1, 3, 4, 5)] == [*rows[:2], *rows[3:]]
    assert "cpu_time" in capfd.readouterr().err


def test_it_runs_as_a_script_and_writes_a_file(tmp_path: Path) -> None:
    """Three bytes a pixel, after a line that says how many."""
    out = tmp_path / "picture.ppm"
    done = programs.run(str(RENDER), "--size", "30x20", "--depth", "20", "--out", str(out))
    head, _, pixels = out.read_bytes().partition(b"\n")

    assert (head, len(pixels)) == (b"P6 30 20 255", 30 * 20 * 3)
    assert "20 rows in" in done.stderr
