"""The house itself: layers, names, pins, and a README that tells the truth."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from ddip_ray_cli.app import app
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ddip_ray.config.methods import METHODS

HOUSE = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text())
MAX_PRIOR_BYTES = 20 * 10**6


def test_imports_point_down() -> None:
    command = str(Path(sys.executable).with_name("lint-imports"))
    checked = subprocess.run(
        [command, "--no-cache", "--no-logo"], check=False, cwd=HOUSE, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_wheel_claims_only_its_own_names() -> None:
    claimed = (distribution("ddip-ray").read_text("top_level.txt") or "").split()
    assert sorted(claimed) == ["ddip_ray", "ddip_ray_cli", "ddip_ray_deploy"]


def test_every_folder_of_code_is_packaged() -> None:
    packaged = set(PROJECT["tool"]["setuptools"]["packages"])
    rooms = {"ddip_ray": HOUSE / "ddip_ray", "ddip_ray_cli": HOUSE / "cli"}
    named = {
        ".".join((name, *path.parent.relative_to(folder).parts))
        for name, folder in rooms.items()
        for path in folder.rglob("*.py")
    }
    assert named | {"ddip_ray_deploy"} == packaged


def test_every_requirement_is_pinned_within_its_range() -> None:
    lines = (HOUSE / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != "ddip-ray":
            assert requirement.specifier.contains(pins[name]), f"{requirement}, pinned {pins[name]}"


def test_readme_names_only_commands_that_exist() -> None:
    known = {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    readme = (HOUSE / "README.md").read_text()
    assert set(re.findall(r"ddip-ray ([a-z-]+)", readme)) <= known


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md"])
def test_pages_name_only_files_that_exist(page: str) -> None:
    text, folder = (HOUSE / page).read_text(), (HOUSE / page).parent
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    files = re.findall(r"`((?:ddip_ray|cli|docs|tests|benchmarks|examples)/[\w/.-]+\.(?:py|md))`", text)
    missing = [link for link in links if not (folder / link).exists()]
    assert missing + [file for file in files if not (HOUSE / file).is_file()] == []
    assert links


def test_readme_is_short_and_lists_every_method() -> None:
    readme = (HOUSE / "README.md").read_text()
    assert len(readme.splitlines()) <= 130
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z][a-z0-9-]+)`", row.split("|")[1])}
    assert named == set(METHODS)


@pytest.mark.parametrize("target", ["demo", "test", "check"])
def test_makefile_targets(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], check=True, cwd=HOUSE, capture_output=True)


def test_ci_runs_the_tests() -> None:
    script = HOUSE / ".ci" / "run"
    assert "make test" in script.read_text()
    assert script.stat().st_mode & 0o100


def test_shipped_priors_are_small_and_have_a_card() -> None:
    weights = HOUSE / "ddip_ray" / "prior" / "weights"
    priors = [path for path in weights.iterdir() if (path / "config.json").is_file()]
    assert priors
    for prior in priors:
        names = {path.name for path in prior.iterdir()}
        assert {"card.json", "README.md", "samples.png", "diffusion_pytorch_model.safetensors"} <= names
        assert not any(name.endswith((".pt", ".pth", ".bin")) for name in names)
        assert (prior / "diffusion_pytorch_model.safetensors").stat().st_size <= MAX_PRIOR_BYTES
