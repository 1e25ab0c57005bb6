"""Examples in cells (``# %%``), as pages and as notebooks."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HOUSE = Path(__file__).parents[2]
_PICTURE = re.compile(r'savefig\("(\w+)\.png"')


@dataclass(frozen=True)
class Cell:
    """A cell of an example: Markdown without the comment signs, or code."""

    kind: Literal["markdown", "code"]
    text: str


def cells(text: str) -> list[Cell]:
    """The cells of a script; what stands before the first ``# %%`` is dropped."""
    found = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            lines = [re.sub(r"^# ?", "", line) for line in body.strip().splitlines()]
            found.append(Cell("markdown", "\n".join(lines)))
        elif body.strip():
            found.append(Cell("code", body.strip()))
    return found


def environment() -> dict[str, str]:
    """Variables with which examples run: no windows, and deepinv where `make install` put it."""
    apart = [HOUSE / "tests" / "interop" / "stand_in", Path(sys.prefix) / "deepinv"]
    search = os.pathsep.join([*map(str, apart), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": search}


def picture_names(code: str) -> list[str]:
    """Names, without ``.png``, of the pictures that ``code`` draws."""
    return _PICTURE.findall(code)


def example_page(path: Path) -> str:
    """The example at ``path`` as Markdown, each picture below the cell that draws it."""
    parts = []
    for cell in cells(path.read_text()):
        if cell.kind == "markdown":
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        for name in picture_names(cell.text):
            parts.append(f"![The picture that this cell draws](../images/examples/{name}.png)")
    parts.append(f"*The script is `examples/{path.name}`.*")
    return "\n\n".join(parts) + "\n"


def notebook(path: Path) -> Any:
    """The example at ``path`` as a notebook that has not run yet."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    new = {"markdown": new_markdown_cell, "code": new_code_cell}
    return new_notebook(cells=[new[cell.kind](cell.text) for cell in cells(path.read_text())])
