"""The image: there is no engine to build it with here, so its steps are read, and one of them is run."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ddip_ray.launch.kubernetes.pods import HOME
from ddip_ray.launch.kubernetes.site import KubernetesSite

HOUSE = Path(__file__).parents[2]
FOLDER = HOUSE / "deploy" / "container"
DOCKERFILE = FOLDER / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(word, the rest), of lines joined where they go on."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def copied() -> list[str]:
    """What comes from the repository."""
    words = [rest.split() for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    return [source for found in words for source in found[:-1]]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_hadolint_has_nothing_to_say() -> None:
    command = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([str(command), str(DOCKERFILE)], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignore = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for source in copied():
        assert (HOUSE / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignore, source


def test_steps_are_shell() -> None:
    for word, rest in instructions():
        if word == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)


def test_every_install_is_pinned() -> None:
    installs = [part for word, rest in instructions() if word == "RUN" for part in re.split(r"&&|;;", rest)]
    installs = [part for part in installs if "pip install" in part]
    assert len(installs) == 4
    names = {Path(source).name for source in copied()}
    for part in installs:
        words = shlex.split(part.split(")")[-1])
        files = {after for before, after in itertools.pairwise(words) if before == "-c"}
        assert "constraints.txt" in files
        assert files <= names


def test_rays_dashboard_is_pinned_beside_the_rest() -> None:
    rest, more = pins(HOUSE / "constraints.txt"), pins(FOLDER / "ray-default.txt")
    assert not rest.keys() & more.keys()
    wanted = [Requirement(text) for text in requires("ray") or []]
    extra = [one for one in wanted if one.marker and one.marker.evaluate({"extra": "default"})]
    assert extra
    for one in extra:
        assert one.specifier.contains((rest | more)[canonicalize_name(one.name)]), str(one)


def test_extras_exist() -> None:
    (step,) = [rest for word, rest in instructions() if word == "RUN" and '".[' in rest]
    found = re.search(r'"\.\[([a-z0-9,]+)\]"', step)
    assert found
    known = {
        one.marker and str(one.marker).split('"')[-2] for one in map(Requirement, requires("ddip-ray") or [])
    }
    assert set(found[1].split(",")) <= known


def test_the_user_is_nobody_special_and_the_one_of_the_pods() -> None:
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    uid = KubernetesSite.model_fields["user_id"].default
    assert user == f"{uid}:{uid}"
    (made,) = [rest for word, rest in instructions() if word == "RUN" and "useradd" in rest]
    assert f"--uid {uid} " in made
    assert f"--home-dir {HOME} " in made


def test_no_secret_is_asked_for_and_the_device_is_a_choice() -> None:
    arguments = {rest.split("=")[0] for word, rest in instructions() if word == "ARG"}
    assert arguments == {"PYTHON", "DEVICE", "VERSION", "REVISION"}
    assert "--mount=type=secret" not in DOCKERFILE.read_text()
    assert "**/s3.env" in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()  # an admin's keys


def test_the_image_says_what_it_is() -> None:
    (labels,) = [rest for word, rest in instructions() if word == "LABEL"]
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the program as the image installs it, from what the image is given."""
    folder = tmp_path_factory.mktemp("image")
    context = folder / "build"
    context.mkdir()
    for source in copied():
        if (HOUSE / source).is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(HOUSE / source, context / source, ignore=skipped)
        else:
            shutil.copy(HOUSE / source, context)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    # The other packages, and setuptools, are those of this environment.
    (site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    ours = Path(pytest.__file__).parents[1]
    (site_packages / "ours.pth").write_text(f"import site; site.addsitedir({str(ours)!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install", "-q"]
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", "."]
    done = subprocess.run([*pip, *flags], check=False, cwd=context, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site_packages


def test_the_program_runs_as_the_image_installs_it(installed: Path) -> None:
    program = installed.parents[2] / "bin" / "ddip-ray"
    said = subprocess.run([str(program), "--version"], check=True, capture_output=True, text=True).stdout
    assert said.startswith("ddip-ray ")
    where = "import ddip_ray, ddip_ray_cli; print(ddip_ray.__file__)"
    python = str(program.with_name("python"))
    found = subprocess.run([python, "-P", "-c", where], check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(installed)


def test_the_image_carries_its_examples_and_its_metadata(installed: Path) -> None:
    assert (installed / "ddip_ray_deploy" / "kubernetes" / "site.example.yaml").is_file()
    assert list(installed.glob("ddip_ray-*.dist-info/METADATA"))
