"""How a table of a benchmark begins: what made it, on what machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path

import torch


def heading(title: str, text: str) -> list[str]:
    """Lines of Markdown, with the command line that was given."""
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    command = shlex.join(["python", script, *sys.argv[1:]])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    return [f"# {title}", "", f"`{command}`, {machine}: {text}", ""]
