"""Checks of a manifest against rules of KubeRay and Kueue that no schema contains.

The API server checks types and names of fields itself: it has the schema of the installed version, and
`kubectl create` shows what it says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from ddip_ray.errors import InputError
from ddip_ray.launch.kubernetes.pods import Object
from ddip_ray.launch.kubernetes.rayjob import QUEUE_LABEL

LONGEST_NAME = 47  # KubeRay appends to it, and Kubernetes allows 63 characters
MOST_GROUPS = 7  # groups of workers that Kueue takes
_TOKENS_SINCE = (2, 52)
_KUBERAYS_OWN = {"RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}


def check_rayjob(manifest: Object) -> None:
    """Check a manifest before it is sent.

    Raises:
        InputError: it breaks a rule; one bullet for each.
    """
    found = list(_problems(manifest))
    if found:
        raise InputError("the RayJob would be refused:" + "".join(f"\n  - {problem}" for problem in found))


def _problems(manifest: Object) -> Iterator[str]:
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("ray.io/v1", "RayJob"):
        yield "apiVersion and kind: expected ray.io/v1 and RayJob"
    metadata, spec = manifest.get("metadata", {}), manifest.get("spec", {})
    yield from _name(str(metadata.get("name", "")))
    if "rayClusterSpec" not in spec:
        yield "spec.rayClusterSpec: missing; a job has a cluster of its own"
        return
    cluster = spec["rayClusterSpec"]
    yield from _ending(spec)
    yield from _version(cluster)
    yield from _groups(cluster)
    if QUEUE_LABEL in metadata.get("labels", {}):
        yield from _queued(spec, cluster)
    if cluster.get("enableInTreeAutoscaling"):
        yield from _elastic(spec, cluster)
    for where, pod in _pods(cluster):
        yield from _pod(where, pod)


def _name(name: str) -> Iterator[str]:
    if len(name) > LONGEST_NAME:
        yield f"metadata.name: {len(name)} characters, at most {LONGEST_NAME}"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"metadata.name: {name!r}, expected lower-case letters, digits and dashes, a letter first"


def _ending(spec: Object) -> Iterator[str]:
    if not spec.get("entrypoint", "").strip():
        yield "spec.entrypoint: nothing to run"
    if spec.get("backoffLimit", 0) < 1:
        yield "spec.backoffLimit: expected at least 1, or nothing goes on after a failure"
    if spec.get("backoffLimit", 0) > 0 and spec.get("submissionMode") == "InteractiveMode":
        yield "spec.submissionMode: InteractiveMode knows no backoffLimit"
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "spec.ttlSecondsAfterFinished: less than 0"
    stays = not spec.get("shutdownAfterJobFinishes", False)
    if stays and (spec.get("ttlSecondsAfterFinished", 0) > 0 or spec.get("suspend", False)):
        yield "spec.shutdownAfterJobFinishes: has to be true with ttlSecondsAfterFinished or suspend"
    if spec.get("clusterSelector"):
        yield "spec.clusterSelector: another cluster than the job's own can neither be retried nor suspended"


def _version(cluster: Object) -> Iterator[str]:
    found, installed = cluster.get("rayVersion", ""), version("ray")
    auth = cluster.get("authOptions", {})
    if found != installed:
        yield f"rayVersion: {found or 'missing'}, here and in the image it is {installed}"
    if auth.get("mode") == "token" and tuple(map(int, re.findall(r"\d+", found)[:2])) < _TOKENS_SINCE:
        yield "authOptions.mode: tokens take Ray 2.52 or newer"
    if auth.get("enableK8sTokenAuth"):
        yield "authOptions.enableK8sTokenAuth: not for RayJobs"


def _groups(cluster: Object) -> Iterator[str]:
    for group in cluster.get("workerGroupSpecs", []):
        where = f"worker group {group.get('groupName')}"
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if least is None or most is None:
            if not cluster.get("enableInTreeAutoscaling"):
                yield f"{where}: minReplicas and maxReplicas are missing"
        elif not 0 <= least <= group.get("replicas", least) <= most:
            yield f"{where}: expected 0 <= minReplicas <= replicas <= maxReplicas"


def _queued(spec: Object, cluster: Object) -> Iterator[str]:
    groups = cluster.get("workerGroupSpecs", [])
    if cluster.get("enableInTreeAutoscaling"):
        yield f"enableInTreeAutoscaling: Kueue ({QUEUE_LABEL}) admits fixed sizes only"
    if not spec.get("shutdownAfterJobFinishes", False):
        yield "spec.shutdownAfterJobFinishes: has to be true in Kueue, which waits for what is held"
    if len(groups) > MOST_GROUPS:
        yield f"workerGroupSpecs: {len(groups)} groups, Kueue takes {MOST_GROUPS}"
    if any(group.get("groupName") == "head" for group in groups):
        yield "workerGroupSpecs: Kueue keeps the name head for itself"


def _elastic(spec: Object, cluster: Object) -> Iterator[str]:
    if cluster.get("autoscalerOptions", {}).get("version") != "v2":
        yield "autoscalerOptions.version: expected v2"
    for where, pod in _pods(cluster):
        if pod.get("restartPolicy", "Never") != "Never":
            yield f"{where}: restartPolicy {pod['restartPolicy']}, with the autoscaler it has to be Never"
    if not {"--gpus", "--workers"} & set(shlex.split(spec.get("entrypoint", ""))):
        yield "spec.entrypoint: has to say --gpus or --workers: there is nothing to count when it starts"


def _pods(cluster: Object) -> Iterator[tuple[str, Object]]:
    for name, group in [
        ("head", cluster.get("headGroupSpec", {})),
        *((f"worker group {group.get('groupName')}", group) for group in cluster.get("workerGroupSpecs", [])),
    ]:
        yield name, group.get("template", {}).get("spec", {})


def _pod(where: str, pod: Object) -> Iterator[str]:
    containers = pod.get("containers", [])
    if not containers:
        yield f"{where}: no container"
        return
    if not str(containers[0].get("name", "")).startswith("ray-"):
        yield f"{where}: the container of Ray has to be the first, found {containers[0].get('name')}"
    if pod.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield f"{where}: securityContext.runAsNonRoot has to be true"
    for container in containers:
        yield from _container(f"{where}, {container.get('name')}", container)


def _container(where: str, container: dict[str, Any]) -> Iterator[str]:
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for resource in (limits.keys() | requests.keys()) - {"cpu", "memory"}:
        if limits.get(resource) != requests.get(resource):
            yield f"{where}: {resource} has to be the same in requests and limits"
    for variable in container.get("env", []):
        if variable.get("name") in _KUBERAYS_OWN:
            yield f"{where}: {variable['name']} is KubeRay's to set"
