"""What pods do before they end, run in a process table of its own: it looks for processes by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes_cluster import site

from ddip_ray.launch.kubernetes.pods import head_pod, worker_pod
from ddip_ray.launch.kubernetes.sizing import JobSize

ALONE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
HEAD = head_pod(site())
WORKER = worker_pod(site(), JobSize(1, 1, True), "8Gi")

# As `ddip-ray reconstruct` ends: after the step that it is making.
DRIVER = f"""#!{sys.executable}
import time
from ddip_ray_cli.interrupts import stoppable
with stoppable() as should_stop:
    print("ready", flush=True)
    while not should_stop():
        time.sleep(0.1)
    time.sleep(1.5)
    print("snapshot", flush=True)
"""
BEGUN = """
{folder}/bin/ddip-ray reconstruct vol.zarr > {log} 2>&1 &
until grep -q ready {log}; do sleep 0.1; done
"""


@pytest.fixture(scope="module", autouse=True)
def _process_table() -> None:
    tried = subprocess.run([*ALONE, "true"], check=False, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no process table of its own can be had here: {tried.stderr.strip()}")


def hook(pod: dict[str, dict[str, list[dict[str, dict[str, dict[str, dict[str, list[str]]]]]]]]) -> str:
    bash, dash_c, script = pod["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert (bash, dash_c) == ("/bin/bash", "-c")
    return script


def run_alone(script: str) -> str:
    return subprocess.run(
        [*ALONE, "bash", "-c", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where Ray keeps what the driver writes, with its program beside it."""
    program = tmp_path / "bin" / "ddip-ray"
    program.parent.mkdir()
    program.write_text(DRIVER)
    program.chmod(0o755)
    path = tmp_path / "ray" / "session_latest" / "logs" / "job-driver-a.log"
    path.parent.mkdir(parents=True)
    return path


def on_head(log: Path, before: str) -> None:
    folder = log.parents[3]
    (folder / "hook").write_text(hook(HEAD).replace("/tmp/ray", str(folder / "ray")))
    run_alone(BEGUN.format(folder=folder, log=log) + before + f'bash -c "$(cat {folder}/hook)"')


def test_the_driver_is_told_and_waited_for(log: Path) -> None:
    on_head(log, "")
    assert log.read_text().splitlines() == ["ready", *log.read_text().splitlines()[1:-1], "snapshot"]
    assert log.read_text().count("SIGTERM: stopping") == 1


def test_the_driver_is_not_told_twice(log: Path) -> None:
    """Ray tells it when a RayJob is deleted, and a second time would end it without a snapshot."""
    on_head(log, f"kill -TERM $!\nuntil grep -q SIGTERM {log}; do sleep 0.1; done\n")
    assert log.read_text().splitlines()[-1] == "snapshot"
    assert "Traceback" not in log.read_text()


def test_a_head_without_a_driver_ends_at_once() -> None:
    assert run_alone(f"SECONDS=0\n{hook(HEAD)}\necho $SECONDS") in ("", "0\n")  # its exit may come first


def test_workers_wait_for_what_the_driver_asks_of_them() -> None:
    busy = "(exec -a ray::WorkerActor.do sleep 2) & sleep 0.3\n"
    assert run_alone(f'{busy}SECONDS=0\nbash -c "$1"\necho $SECONDS'.replace("$1", hook(WORKER))) >= "1"


def test_workers_do_not_wait_for_nothing() -> None:
    idle = "(exec -a ray::IDLE sleep 30) & sleep 0.3\n"
    waited = int(run_alone(f"{idle}SECONDS=0\n{hook(WORKER)}\necho $SECONDS; kill %1"))
    assert waited < 10  # of the 30 that the idle process is there
