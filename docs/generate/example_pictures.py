"""Run the examples and keep their pictures for the pages: ``python docs/generate/example_pictures.py``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from example_pages import environment

HOUSE = Path(__file__).parents[2]
PICTURES = HOUSE / "docs" / "images" / "examples"


def main(names: list[str]) -> None:
    """Run the examples ``names``, all by default, and copy what they draw."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for example in sorted((HOUSE / "examples").glob("*.py")):
        if names and example.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, str(example)], cwd=folder, env=environment(), check=True)
            for picture in Path(folder).glob("*.png"):
                shutil.copy(picture, PICTURES / picture.name)
                print(PICTURES / picture.name)


if __name__ == "__main__":
    main(sys.argv[1:])
