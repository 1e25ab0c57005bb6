"""Signals, as a terminal, Slurm and Kubernetes send them, to the command in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from ddip_ray_cli.main import main

from ddip_ray.io.stores.result import open_result

COMMAND = [sys.executable, "-c", "import sys; from ddip_ray_cli.main import run; sys.exit(run())"]
STEPS = "sampler: {num_steps: 60, cg_iterations: 4, final_cg_iterations: 4}\n"


@pytest.fixture
def words(small_scan: Path, untrained_prior: Path) -> list[str]:
    """A reconstruction of many short steps in this many words, by a prior that knows nothing."""
    config = small_scan.parent / "run.yaml"
    config.write_text(STEPS)
    files = [str(small_scan), "-o", str(small_scan.parent / "out.zarr")]
    return [
        "reconstruct",
        *files,
        "--method",
        "dds",
        "--prior",
        str(untrained_prior),
        "--config",
        str(config),
    ]


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, once it makes steps, with processes of its own group as in a terminal."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*COMMAND, *words], stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("dds "):
                break
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def result(words: list[str]) -> np.ndarray:
    made = open_result(words[words.index("-o") + 1])
    return made.read(0, made.shape[0])


def undisturbed(words: list[str]) -> np.ndarray:
    out = words.index("-o") + 1
    other = [*words[:out], words[out].replace("out", "whole"), *words[out + 1 :], "--executor", "local"]
    assert main(other) == 0
    return result(other)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_where_it_can_go_on(words: list[str], number: signal.Signals) -> None:
    words = [*words, "--workers", "2"]
    with running([*words, "--restart"]) as process:
        # Ctrl-C goes to every process of the terminal's group, workers included; a warning to the command.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=900)
    assert process.returncode == 75, said
    assert f"{number.name}: stopping after this step" in said
    assert "of 60, which " in said
    *_, last = said.strip().splitlines()
    assert last.strip() == f"go on with: {shlex.join(['ddip-ray', *words])}"
    assert not Path(words[words.index("-o") + 1]).exists()
    again = subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
    assert "going on after step" in again.stderr
    np.testing.assert_array_equal(result(words), undisturbed(words[:-2]))


def test_a_second_signal_ends_it_at_once(words: list[str], small_scan: Path) -> None:
    with running([*words, "--workers", "1"]) as process:
        os.kill(process.pid, signal.SIGSTOP)  # so that both are there when it looks
        os.kill(process.pid, signal.SIGUSR1)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=900)
    assert process.returncode == 130, said
    assert "SIGUSR1: stopping after this step" in said
    left = sorted(path.name for path in small_scan.parent.iterdir())
    assert left == ["run.yaml", "vol.zarr"]


def test_a_killed_command_goes_on_when_given_again(words: list[str]) -> None:
    words = [*words, "--workers", "2", "--snapshot-every", "3"]
    with running(words) as process:
        snapshots = Path(words[words.index("-o") + 1] + ".snapshots")
        while len(list(snapshots.glob("*.json"))) < 2:
            assert process.poll() is None
        process.kill()
        process.wait()
    again = subprocess.run([*COMMAND, *words], check=True, capture_output=True, text=True)
    assert "going on after step" in again.stderr
    np.testing.assert_array_equal(result(words), undisturbed(words[:-4]))
    left = sorted(path.name for path in snapshots.parent.iterdir())
    assert left == ["out.zarr", "run.yaml", "vol.zarr", "whole.zarr"]
