"""What the help says of every command and option, and the reference that is made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from ddip_ray_cli.app import app
from ddip_ray_cli.launch.launched import COMMANDS
from ddip_ray_cli.options import MethodChoice, PresetChoice
from ddip_ray_cli.reference import command_reference

from ddip_ray.config.methods import METHOD_NAMES
from ddip_ray.launch.command import LAUNCHABLE

UNPLAIN = re.compile(r"(^|[.] )(Of|That|As|By|Until|Back)\b|\b(so|as) (many|long|often)\b")
LONGEST_SUMMARY = 62  # characters that the list of commands shows of each


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{path} {name}")


PAGES = dict(walk(typer.main.get_command(app), "ddip-ray"))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_is_described_in_plain_sentences(page: str) -> None:
    command = PAGES[page]
    texts = [command.help, *(parameter.help for parameter in command.params)]
    for text in texts:
        assert text, page
        assert not text[0].islower(), text
        assert text.rstrip().endswith((".", "vol.zarr")), text
        assert not UNPLAIN.search(text), text


@pytest.mark.parametrize("page", list(PAGES)[1:])
def test_the_list_of_commands_shows_whole_sentences(page: str) -> None:
    summary = PAGES[page].get_short_help_str(LONGEST_SUMMARY)
    assert not summary.endswith("...")


def test_choices_are_those_of_the_library() -> None:
    assert tuple(MethodChoice) == METHOD_NAMES
    assert set(PresetChoice) == {"default", "paper"}


def test_launched_commands_are_commands_of_the_app() -> None:
    assert tuple(COMMANDS) == LAUNCHABLE
    for name, function in COMMANDS.items():
        assert PAGES[f"ddip-ray {name}"].callback.__wrapped__ is function


def test_the_reference_has_every_command_and_option() -> None:
    reference = command_reference()
    sections = dict(re.findall(r"^#+ `([^`]+)`\n(.*?)(?=^#+ `|\Z)", reference, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(PAGES)
    for page, command in PAGES.items():
        rows = re.findall(r"^\| `(.*?)` \| (.+) \|$", sections[page], re.MULTILINE)
        names = {name for shown, _ in rows for name in re.split(r"[ ,]+", shown)}
        for parameter in command.params:
            wanted = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
            assert names.issuperset(wanted), (page, parameter.name)


def test_the_reference_shows_how_a_command_is_called() -> None:
    reference = command_reference()
    assert "```\nddip-ray reconstruct [OPTIONS] STORE\n```" in reference
    assert "```\nddip-ray demo [OPTIONS] [SCAN]\n```" in reference
    assert "```\nddip-ray launch slurm [OPTIONS] -- COMMAND\n```" in reference
    assert r"| `--snapshot-every N\|TIME\|never` |" in reference
    assert "[default: 10m]" in reference
