"""Pages: the site builds without a warning, commands exist, Python blocks run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from ddip_ray_cli.main import app

from ddip_ray.config.methods import METHOD_NAMES

HOUSE = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app)
DOCS = HOUSE / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^(<!-- runnable -->\n)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The command lines of ddip-ray in a page's shell blocks, as words."""
    found = []
    for _, language, body in BLOCK.findall(page.read_text()):
        if language in ("", "sh", "shell", "bash"):
            for line in body.splitlines():
                if line.startswith("ddip-ray "):
                    found.append(shlex.split(line, comments=True)[1:])
    return found


def check(words: list[str], name: str) -> None:
    """Parse ``words`` as the command line would, and run nothing; what stands after -- is a command, too."""
    own, _, launched = "\n".join(words).partition("\n--\n")
    command: Any = COMMANDS
    words = own.split("\n")
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{name}: no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    inner = launched.split("\n") if launched else []
    with command.make_context(command.name, [*words, *(["--", *inner] if inner else [])]):
        pass  # parsed: arguments, options and their values
    if inner:
        check(inner, name)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option --address sets RAY_ADDRESS while it is parsed; afterwards it is as before."""
    monkeypatch.setenv("RAY_ADDRESS", "")


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        check(words, f"{page.name}: {shlex.join(words)}")


def test_commands_are_found_and_a_wrong_one_is_seen() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 30
    with pytest.raises(Exception, match="--methods"):
        check(["reconstruct", "vol.zarr", "--methods", "dds"], "wrong")


RUNNABLE = [page for page in PAGES if "<!-- runnable -->" in page.read_text()]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_python_blocks_run(page: Path, tmp_path: Path, untrained_prior: Path) -> None:
    import nibabel

    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    body = np.where(x**2 + 1.5 * y**2 < 0.6, 40.0, -1000.0)
    image = np.repeat(body[..., None], 12, axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "ct.nii.gz")
    blocks = [
        body for runs, language, body in BLOCK.findall(page.read_text()) if runs and language == "python"
    ]
    assert blocks
    script = tmp_path / "blocks.py"
    script.write_text("\n".join(blocks).replace('"default"', repr(str(untrained_prior))))
    run = subprocess.run(
        [sys.executable, str(script)], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_every_method_has_a_page_with_its_paper_and_settings() -> None:
    for name in METHOD_NAMES:
        text = (DOCS / "methods" / f"{name}.md").read_text()
        assert f"<!-- paper of {name} -->" in text
        assert f"<!-- settings of {name} -->" in text
        assert f"({name}.md)" in (DOCS / "methods" / "index.md").read_text()


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        check=False,
        cwd=HOUSE,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr[-3000:]
    assert "WARNING" not in build.stderr
    settings = (tmp_path / "site" / "reference" / "settings" / "index.html").read_text()
    assert "noise_free_below_t" in settings
    assert "<math" in (tmp_path / "site" / "methods" / "dds" / "index.html").read_text()
