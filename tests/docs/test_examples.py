"""The examples run as scripts and, one of them, in a Jupyter kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).parents[2]
EXAMPLES = sorted((HOUSE / "examples").glob("*.py"))


def pictures(example: Path) -> set[str]:
    return {f"{name}.png" for name in example_pages().picture_names(example.read_text())}


def example_pages() -> Any:
    sys.path.insert(0, str(HOUSE / "docs" / "generate"))
    try:
        import example_pages
    finally:
        sys.path.pop(0)
    return example_pages


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws_what_the_page_shows(example: Path, tmp_path: Path) -> None:
    strict = [] if "deepinv" in example.stem else ["-W", "error"]  # deepinv's own warnings are not ours
    run = subprocess.run(
        [sys.executable, *strict, str(example)],
        check=False,
        cwd=tmp_path,
        env={**example_pages().environment(), "DDIP_RAY_EXAMPLES_SMALL": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn
    assert drawn == pictures(example)
    for name in drawn:
        kept = HOUSE / "docs" / "images" / "examples" / name
        assert kept.is_file(), "run: python docs/generate/example_pictures.py"


def test_example_runs_in_a_jupyter_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("DDIP_RAY_EXAMPLES_SMALL", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows pictures in the notebook
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = example_pages().notebook(HOUSE / "examples" / "sparse_view_ct.py")
    notebook.cells[1].source += "\nimport asyncio\nassert asyncio.get_running_loop().is_running()"
    done = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = "".join(str(output) for cell in done.cells for output in cell.get("outputs", []))
    assert "8/8" in shown, "the progress bar"
    assert "image/png" in shown
