"""Submitting and following jobs with kubectl, which knows how to reach the cluster."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddip_ray.errors import InputError

POLL_SECONDS = 5.0
_PATIENCE = 12  # consecutive questions without an answer
_SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class JobState:
    """The state of a RayJob, as KubeRay reports it.

    Attributes:
        deployment: state of the job's cluster.
        job: state of the command on it.
        cluster: name of the Ray cluster.
        failures: number of failed tries.
        reason: why it failed, in one word.
        message: why it failed, in words.
    """

    deployment: str = ""
    job: str = ""
    cluster: str = ""
    failures: int = 0
    reason: str = ""
    message: str = ""

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> JobState:
        """The state in the manifest that kubectl shows."""
        status = manifest.get("status", {})
        return cls(
            deployment=status.get("jobDeploymentStatus", ""),
            job=status.get("jobStatus", ""),
            cluster=status.get("rayClusterName", ""),
            failures=status.get("failed", 0),
            reason=status.get("reason", ""),
            message=status.get("message", ""),
        )

    @property
    def is_over(self) -> bool:
        """Whether the job has ended and will not be tried again."""
        return self.deployment in ("Complete", "Failed", "ValidationFailed")

    @property
    def has_succeeded(self) -> bool:
        """Whether the command has ended without an error."""
        return self.deployment == "Complete" and self.job == _SUCCEEDED

    @property
    def in_words(self) -> str:
        """The state in one line for the user."""
        if self.deployment in ("", "Suspended"):
            return "waiting to be admitted"
        if self.deployment == "Initializing":
            return f"waiting for the pods of {self.cluster or 'the Ray cluster'}"
        words = (self.job or self.deployment).lower()
        if self.failures and not self.is_over:
            words += f", after {self.failures} failure{'s' if self.failures > 1 else ''}"
        if self.reason:
            words += f": {self.reason}"
        return words


@dataclass(frozen=True)
class Kubectl:
    """The program kubectl, for one namespace."""

    namespace: str

    def create(self, manifest: str) -> None:
        """Submit a manifest.

        Raises:
            InputError: there is no kubectl, or the cluster refuses the manifest.
        """
        sent = self._run("create", "--filename=-", stdin=manifest)
        if sent.returncode != 0:
            said = sent.stderr.strip()
            hint = f"See kubectl auth can-i create rayjobs.ray.io --namespace {self.namespace}"
            if "AlreadyExists" in said:
                hint = "Give another `name`, or delete that job."
            raise InputError(f"kubectl create: {said or 'failed'}", hint)

    def state(self, name: str) -> JobState | None:
        """The state of the job; None if there was no answer this time.

        Raises:
            InputError: the job does not exist any more.
        """
        found = self._run("get", "rayjobs.ray.io", name, "--output=json")
        if found.returncode != 0:
            if "NotFound" in found.stderr:
                raise InputError(f"RayJob {name} has been deleted")
            return None
        return JobState.of(json.loads(found.stdout))

    def show_logs(self, name: str, since: float | None) -> None:
        """Show what the driver writes, until it ends.

        Args:
            name: name of the job.
            since: leave out what is older than this number of seconds; None: show all.
        """
        words = ["logs", "--follow", f"job/{name}"]
        if since is not None:
            words.append(f"--since={max(1, round(since))}s")
        # Errors are ignored: the pod is about to start, or the connection was cut; the next look will tell.
        self._run(*words, capture=False)

    def _run(self, *words: str, stdin: str = "", capture: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--namespace={self.namespace}", *words]
        try:
            return subprocess.run(
                command,
                input=stdin,
                check=False,
                text=True,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.PIPE if capture else subprocess.DEVNULL,
            )
        except OSError as error:
            raise InputError(
                f"kubectl cannot be run: {error}", "Install it, or only print the manifest (`dry_run=True`)."
            ) from error


def follow(
    kubectl: Kubectl,
    name: str,
    say: Callable[[str], None],
    poll_seconds: float = POLL_SECONDS,
) -> JobState:
    """Wait until the job is over, showing on stdout what the driver writes.

    Args:
        kubectl: the program.
        name: name of the job.
        say: called with each new state in words.
        poll_seconds: time between two looks at the job.

    Returns:
        The last state.

    Raises:
        InputError: the job is gone, or the cluster does not answer any more.
    """
    shown, seen_until, silent = "", dict[str, float](), 0
    while True:
        state = kubectl.state(name)
        silent = 0 if state else silent + 1
        if silent >= _PATIENCE:
            raise InputError(
                f"the cluster does not answer; RayJob {name} goes on without us",
                f"See kubectl get rayjob {name} --namespace {kubectl.namespace}",
            )
        if state and state.in_words != shown:
            shown = state.in_words
            say(f"{name}: {shown}")
        if state and state.is_over:
            return state
        if state and state.deployment == "Running":
            last = seen_until.get(state.cluster)  # a retry has a cluster of its own, and logs from the start
            kubectl.show_logs(name, None if last is None else time.monotonic() - last)
            seen_until[state.cluster] = time.monotonic()
        time.sleep(poll_seconds)
