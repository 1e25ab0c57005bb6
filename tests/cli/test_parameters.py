"""Messages name parameters of the library; the command line shows the options of the command that was run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ddip_ray_cli.app import app
from ddip_ray_cli.main import main
from ddip_ray_cli.parameters import OTHER_NAMES, command_of, with_options

import ddip_ray

PARSER = typer.main.get_command(app)
ERRORS = ("InputError", "Unavailable", "NoRoom", "WorkersLost")
PYTHON_ONLY = {"`layout`"}  # no command gives it beside its parts


def shown(message: str, *words: str) -> str:
    return with_options(message, command_of(PARSER, words))


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("simulate", "`num_views`: found 0", "--views: found 0"),
        ("simulate", "`angular_range_deg`: found 400", "--angular-range: found 400"),
        ("simulate", "`window`: found 1 to 0", "--window: found 1 to 0"),
        ("simulate", "Give it by hand: `voxel_mm`", "Give it by hand: --voxel-mm"),
        ("simulate-mri", "`num_coils`: found 0", "--coils: found 0"),
        ("import-mri", "`num_coils`: found 0", "--compress-coils: found 0"),
        ("import-mri", 'Use `maps="low-resolution"`', "Use --maps low-resolution"),
        ("import-mri", "Use `whiten=False`", "Use --no-whiten"),
        ("import-mri", "Give `image_size=(128, 96)`", "Give --image-size 128 96"),
        ("import-mri", "Name one: `key=NAME`", "Name one: --key NAME"),
        ("import", "Say which: `is_transmission`", "Say which: --transmission/--line-integrals"),
        ("import", "Say `is_transmission=False`", "Say --line-integrals"),
        ("reconstruct", "`num_gpus` 2 and `num_workers` 3 disagree", "--gpus 2 and --workers 3 disagree"),
        ("reconstruct", 'Use `method="dds"` or `overwrite=True`', "Use --method dds or --overwrite"),
        ("reconstruct", "`output`: exists; `store` is another", "--output: exists; STORE is another"),
        ("evaluate", "`data_range`: found 0", "--data-range: found 0"),
    ],
)
def test_a_parameter_is_shown_as_the_option_of_its_command(command: str, message: str, expected: str) -> None:
    assert shown(message, command) == expected


@pytest.mark.parametrize(
    "message",
    [
        "--views: found 0",
        "Make one with `ddip-ray simulate`",
        "`num_threads`: found 0",
        "sampler.eta: found 2; `sampler.start_t` too",
        "Leave `num_workers=None`",
        "Leave `overwrite=False`",
    ],
)
def test_what_is_no_option_stays_as_it_is(message: str) -> None:
    assert shown(message, "reconstruct") == message


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["simulate", "reconstruct", "--views", "3"], "simulate"),
        (["cohort", "run", "folder"], "run"),
        (["launch", "slurm", "--nodes", "2", "--", "reconstruct", "a"], "slurm"),
        (["cohort"], "cohort"),
    ],
)
def test_the_command_is_found_among_the_words(words: list[str], name: str) -> None:
    assert command_of(PARSER, words).name == name


def test_without_a_command_it_is_the_program() -> None:
    assert command_of(PARSER, ["--version"]) is PARSER


def test_every_other_name_is_of_some_command() -> None:
    def parameters(command: typer.core.TyperGroup) -> set[str]:
        below = getattr(command, "commands", {}).values()
        return {p.name for p in command.params if p.name}.union(*map(parameters, below))

    assert set(OTHER_NAMES.values()) <= parameters(PARSER)  # type: ignore[arg-type]


def _leaves(command: Any) -> Iterator[Any]:
    below = getattr(command, "commands", {}).values()
    for child in below:
        yield from _leaves(child)
    if not below:
        yield command


def _quoted_in_messages() -> set[str]:
    """The parameters in backquotes where the library raises an error."""
    found: set[str] = set()
    for path in Path(ddip_ray.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                found.update(*(re.findall(r"`[a-z_.]+(?:=[^`]+)?`", t) for t in texts if isinstance(t, str)))
    return found


def test_every_parameter_in_an_error_is_an_option_of_some_command() -> None:
    quoted = _quoted_in_messages()
    assert len(quoted) > 20
    untranslated = {
        text for text in quoted if all(with_options(text, leaf) == text for leaf in _leaves(PARSER))
    }
    assert untranslated <= PYTHON_ONLY


def test_a_command_shows_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from ddip_ray.errors import InputError
    from ddip_ray.tasks.acquire import simulate_ct

    def refuse(*args: object, **options: object) -> None:
        raise InputError("`num_views`: found 0, expected at least 1", "Give `num_views=30`")

    monkeypatch.setattr(simulate_ct, "simulate", refuse)
    assert main(["simulate", "a.nii", "-o", str(tmp_path / "a.zarr"), "--views", "0"]) == 2
    assert capsys.readouterr().err == (
        "error: --views: found 0, expected at least 1\n  hint: Give --views 30\n"
    )
