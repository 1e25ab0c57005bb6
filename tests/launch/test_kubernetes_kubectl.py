"""Jobs sent and followed: the real kubectl and a server of ours, or a stand-in for it that fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from ddip_ray_cli.main import main
from kubernetes_cluster import ApiServer, Object, schema_errors, serving, site_file

from ddip_ray.errors import InputError
from ddip_ray.launch.kubernetes import kubectl as kubernetes_kubectl
from ddip_ray.launch.kubernetes.kubectl import JobState, Kubectl, follow

KUBECTL = shutil.which("kubectl")
real_kubectl = pytest.mark.skipif(KUBECTL is None, reason="no kubectl on this machine")

RUNNING: Object = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "volume-7-a"}
DONE: Object = RUNNING | {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
RETRYING: Object = {"jobDeploymentStatus": "Retrying", "failed": 1}
AGAIN: Object = RUNNING | {"rayClusterName": "volume-7-b", "failed": 1}
FAILED: Object = RUNNING | {
    "jobDeploymentStatus": "Failed",
    "jobStatus": "FAILED",
    "reason": "AppFailed",
    "message": "exit code 75",
}
STARTING: Object = {"jobDeploymentStatus": "Initializing", "rayClusterName": "volume-7-a"}


@contextmanager
def cluster(server: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """``server`` is the one that kubectl talks to. It has no OpenAPI for kubectl to validate with."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "kubectl").write_text(
        f'#!/bin/sh\ncase " $* " in *" create "*) set -- "$@" --validate=false ;; esac\nexec {KUBECTL} "$@"\n'
    )
    (programs / "kubectl").chmod(0o755)
    with serving(server, folder) as config:
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("HOME", str(folder))  # where kubectl caches what a server can do
        monkeypatch.setenv("KUBECONFIG", str(config))
        monkeypatch.setattr(kubernetes_kubectl.follow, "__defaults__", (0.05,))
        yield server


def launch(folder: Path, *words: str) -> int:
    flags = ["--site", str(site_file(folder)), "--name", "volume-7", "--gpus-per-node", "1", *words]
    return main(["launch", "k8s", *flags, "--", "reconstruct", "vol.zarr"])


@real_kubectl
def test_a_job_is_sent_and_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = ApiServer([{}, STARTING, RUNNING, DONE], ["step 1\nstep 2\n"])
    with cluster(server, tmp_path, monkeypatch):
        assert launch(tmp_path) == 0
    (sent,) = server.created
    assert schema_errors(sent) == []
    said = capfd.readouterr()
    assert said.out == "step 1\nstep 2\n"
    assert "kubectl delete rayjob volume-7 --namespace ddip-ray" in said.err
    assert "resume: launch it again" in said.err
    states = [line for line in said.err.splitlines() if line.startswith("volume-7: ")]
    assert states == [
        "volume-7: waiting to be admitted",
        "volume-7: waiting for the pods of volume-7-a",
        "volume-7: running",
        "volume-7: succeeded",
    ]


@real_kubectl
def test_a_retry_is_followed_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = ApiServer([RUNNING, RUNNING, RETRYING, AGAIN, DONE], ["first\n", "", "second\n"])
    with cluster(server, tmp_path, monkeypatch):
        assert launch(tmp_path) == 0
    assert capfd.readouterr().out == "first\nsecond\n"
    assert ["sinceSeconds" in query for query in server.log_queries] == [False, True, False]
    assert all(query["follow"] == ["true"] for query in server.log_queries)


@real_kubectl
def test_a_job_that_fails_fails_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with cluster(ApiServer([FAILED]), tmp_path, monkeypatch):
        assert launch(tmp_path) == 1
    said = capfd.readouterr().err
    assert "volume-7: failed: AppFailed\nexit code 75\n" in said
    assert "it continues from the last snapshot" in said


@real_kubectl
def test_what_the_cluster_refuses_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with cluster(ApiServer([], refusal="spec.bakoffLimit: no such field"), tmp_path, monkeypatch):
        assert launch(tmp_path) == 2
    said = capfd.readouterr().err
    assert "error: kubectl create: " in said
    assert "spec.bakoffLimit: no such field" in said
    assert "kubectl auth can-i create rayjobs.ray.io --namespace ddip-ray" in said


@real_kubectl
def test_without_following_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(ApiServer([RUNNING]), tmp_path, monkeypatch) as server:
        assert launch(tmp_path, "--no-follow") == 0
    assert len(server.created) == 1
    assert server.asked == 0


@real_kubectl
def test_a_job_that_is_deleted_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        cluster(ApiServer([RUNNING]), tmp_path, monkeypatch),
        pytest.raises(InputError, match="volume-7 has been deleted"),
    ):
        follow(Kubectl("ddip-ray"), "volume-7", print)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name, with ``script`` for what it does."""
    folder.mkdir(exist_ok=True)
    (folder / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_no_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch(tmp_path) == 2
    said = capsys.readouterr().err
    assert "error: kubectl cannot be run: " in said
    assert "--dry-run" in said


def test_a_name_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path / "bin", monkeypatch, "echo 'Error from server (AlreadyExists): exists' >&2; exit 1")
    assert launch(tmp_path) == 2
    assert "Give another --name" in capsys.readouterr().err


def test_a_cluster_that_is_silent_is_asked_again_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked"
    stand_in(tmp_path / "bin", monkeypatch, f"echo \"$@\" >> {log}; echo 'connection refused' >&2; exit 1")
    with pytest.raises(InputError, match="goes on without us"):
        follow(Kubectl("here"), "volume-7", print, poll_seconds=0.0)
    asked = log.read_text().splitlines()
    assert asked == ["--namespace=here get rayjobs.ray.io volume-7 --output=json"] * 12


@pytest.mark.parametrize(
    ("status", "words", "is_over", "has_succeeded"),
    [
        ({}, "waiting to be admitted", False, False),
        ({"jobDeploymentStatus": "Suspended"}, "waiting to be admitted", False, False),
        (STARTING, "waiting for the pods of volume-7-a", False, False),
        (AGAIN, "running, after 1 failure", False, False),
        (RETRYING, "retrying, after 1 failure", False, False),
        (DONE, "succeeded", True, True),
        (DONE | {"jobStatus": "STOPPED"}, "stopped", True, False),
        ({"jobDeploymentStatus": "ValidationFailed"}, "validationfailed", True, False),
        (FAILED, "failed: AppFailed", True, False),
    ],
)
def test_states_in_words(status: Object, words: str, is_over: bool, has_succeeded: bool) -> None:
    state = JobState.of({"status": status})
    assert (state.in_words, state.is_over, state.has_succeeded) == (words, is_over, has_succeeded)


@real_kubectl
def test_what_is_printed_can_be_sent_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch(tmp_path, "--dry-run") == 0
    manifest = yaml.safe_load(capfd.readouterr().out)
    with cluster(ApiServer([]), tmp_path, monkeypatch) as server:
        Kubectl("ddip-ray").create(yaml.safe_dump(manifest))
    assert server.created[0]["spec"] == manifest["spec"]
