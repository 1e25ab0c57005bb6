"""RayJobs as they are rendered: valid for KubeRay 1.7, confined, and refused when something was broken."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import CLAIM, ELASTIC, OBJECTS, QUEUED, Object, schema_errors, site

from ddip_ray.errors import InputError
from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.kubernetes.checks import check_rayjob
from ddip_ray.launch.kubernetes.rayjob import as_yaml, rayjob
from ddip_ray.launch.kubernetes.sizing import JobSize

GPUS, CPUS = JobSize(2, 4, True), JobSize(2, 8, False)
SITES: dict[str, dict[str, Any]] = {
    "fixed": {},
    "queued": {"scheduling": QUEUED},
    "elastic": {"scheduling": ELASTIC},
    "objects": {"storage": OBJECTS},
    "both": {"storage": CLAIM | OBJECTS},
    "everything": {
        "scheduling": QUEUED,
        "image_pull_secrets": ["login"],
        "service_account": "someone",
        "node_selector": {"gpu": "h100"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "isolate_clusters": True,
    },
}


def rendered(layout: JobSize = GPUS, words: str = "reconstruct vol.zarr", **values: Any) -> Object:
    command = layout.placed(LaunchedCommand.parse(shlex.split(words)))
    text = as_yaml(rayjob(site(**values), "volume-7", command, layout, "8192Mi"))
    manifest: Object = yaml.safe_load(text)
    return manifest


def pods(manifest: Object) -> dict[str, Object]:
    cluster = manifest["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "worker": cluster["workerGroupSpecs"][0]["template"]["spec"],
        "submitter": manifest["spec"]["submitterPodTemplate"]["spec"],
    }


@pytest.mark.parametrize("layout", [GPUS, CPUS], ids=["gpus", "cpus"])
@pytest.mark.parametrize("name", SITES)
def test_every_kind_of_job_is_valid(name: str, layout: JobSize) -> None:
    manifest = rendered(layout, **SITES[name])
    assert schema_errors(manifest) == []
    check_rayjob(manifest)


@pytest.mark.parametrize("name", SITES)
def test_every_pod_is_confined(name: str) -> None:
    """As namespaces with the label "restricted" demand, and a little more."""
    for pod in pods(rendered(**SITES[name])).values():
        identity = pod["securityContext"]
        assert identity["runAsNonRoot"] is True
        assert identity["runAsUser"] > 0
        assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["restartPolicy"] == "Never"
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/home/ddip"} <= written
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert {"name": "HOME", "value": "/home/ddip"} in container["env"]


def test_only_the_head_of_an_elastic_job_may_talk_to_kubernetes() -> None:
    for name, values in SITES.items():
        mounted = {k: pod["automountServiceAccountToken"] for k, pod in pods(rendered(**values)).items()}
        assert mounted == {"head": name == "elastic", "worker": False, "submitter": False}


def test_gpus_are_requested_and_limited_alike() -> None:
    worker = pods(rendered())["worker"]
    resources = worker["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "16", "memory": "8192Mi", "nvidia.com/gpu": "4"}
    assert resources["limits"] == {"memory": "8192Mi", "nvidia.com/gpu": "4"}
    assert worker["tolerations"][-1]["key"] == "nvidia.com/gpu"


def test_cpu_workers_see_no_gpu() -> None:
    worker = pods(rendered(CPUS))["worker"]
    assert worker["containers"][0]["resources"]["requests"] == {"cpu": "8", "memory": "8192Mi"}
    assert "tolerations" not in worker


def test_nothing_is_placed_on_the_head() -> None:
    manifest = rendered()
    assert manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in pods(manifest)["head"]["containers"][0]["resources"]["limits"]


def test_fixed_jobs_have_one_size_and_queued_ones_a_label() -> None:
    manifest = rendered(**SITES["queued"])
    group = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 2
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "suspend" not in manifest["spec"]  # Kueue's to set
    assert "enableInTreeAutoscaling" not in manifest["spec"]["rayClusterSpec"]


def test_elastic_jobs_start_with_the_fewest_and_name_the_most() -> None:
    manifest = rendered(**SITES["elastic"])
    cluster = manifest["spec"]["rayClusterSpec"]
    group = cluster["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 2)
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert "--gpus 8" in manifest["spec"]["entrypoint"]


def test_failures_are_retried_from_where_snapshots_outlive_the_pods() -> None:
    spec = rendered(retries=4, keep_seconds=9)["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (4, 9)
    assert spec["shutdownAfterJobFinishes"] is True
    for pod in list(pods({"spec": spec}).values())[:2]:
        container = pod["containers"][0]
        assert container["workingDir"] == "/data"
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]


def test_there_is_time_for_a_snapshot() -> None:
    found = pods(rendered(grace_seconds=450))
    assert found["head"]["terminationGracePeriodSeconds"] == 450
    assert found["worker"]["terminationGracePeriodSeconds"] == 450
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "450"} in found["head"]["containers"][0]["env"]


def test_keys_of_an_object_store_stay_in_their_secret() -> None:
    text = as_yaml(rendered(storage=OBJECTS))
    assert "AWS_SECRET_ACCESS_KEY" not in text
    for name in ("head", "worker"):
        container = pods(rendered(storage=OBJECTS))[name]["containers"][0]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        assert {"name": "AWS_ENDPOINT_URL", "value": "http://objects:9000"} in container["env"]
    assert "envFrom" not in pods(rendered(storage=OBJECTS))["submitter"]["containers"][0]


def test_words_reach_the_driver_as_they_were_given(tmp_path: Path) -> None:
    """KubeRay pastes the entrypoint into a script of bash; Ray quotes what came out of it for sh."""
    words = ["cohort", "run", "scans/*.zarr", "-o", 'it\'s $HOME `x` "y" \\z']
    placed = GPUS.placed(LaunchedCommand.parse(words))
    shown = shlex.join(shlex.split(placed.shell))  # what bash makes of it, quoted again as Ray does
    fake = tmp_path / "ddip-ray"
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        ["sh", "-c", shown], check=True, capture_output=True, text=True, env={"PATH": path}
    ).stdout
    assert said.splitlines() == list(placed.words)


def test_people_can_read_it() -> None:
    text = as_yaml(rendered(**SITES["everything"]))
    assert "&id" not in text  # of YAML, for what occurs twice
    assert "- |\n" in text  # scripts line by line


def cluster_of(manifest: Object) -> Object:
    found: Object = manifest["spec"]["rayClusterSpec"]
    return found


def head_of(manifest: Object) -> Object:
    return pods(manifest)["head"]


def ray_container_second(manifest: Object) -> None:
    head_of(manifest)["containers"].insert(0, {"name": "sidecar", "image": "example.org/other:1"})


def many_groups(manifest: Object) -> None:
    group = cluster_of(manifest)["workerGroupSpecs"][0]
    cluster_of(manifest)["workerGroupSpecs"] = [dict(group, groupName=f"workers-{i}") for i in range(8)]


def unequal_gpus(manifest: Object) -> None:
    pods(manifest)["worker"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "2"


Break = Callable[[Object], Any]
REFUSED: list[tuple[str, Break, str]] = [
    ("fixed", lambda m: m.update(apiVersion="ray.io/v1alpha1"), "expected ray.io/v1"),
    ("fixed", lambda m: m["metadata"].update(name="x" * 48), "48 characters, at most 47"),
    ("fixed", lambda m: m["metadata"].update(name="7-volumes"), "a letter first"),
    ("fixed", lambda m: m["spec"].pop("rayClusterSpec"), "rayClusterSpec: missing"),
    ("fixed", lambda m: m["spec"].update(entrypoint=" "), "nothing to run"),
    ("fixed", lambda m: m["spec"].update(backoffLimit=0), "at least 1"),
    ("fixed", lambda m: m["spec"].update(submissionMode="InteractiveMode"), "knows no backoffLimit"),
    ("fixed", lambda m: m["spec"].update(ttlSecondsAfterFinished=-1), "less than 0"),
    ("fixed", lambda m: m["spec"].update(shutdownAfterJobFinishes=False), "has to be true with ttl"),
    ("fixed", lambda m: m["spec"].update(clusterSelector={"ray.io/cluster": "a"}), "clusterSelector"),
    ("fixed", lambda m: cluster_of(m).update(rayVersion="2.40.0"), "tokens take Ray 2.52"),
    ("fixed", lambda m: cluster_of(m).update(rayVersion="2.99.0"), f"in the image it is {version('ray')}"),
    ("fixed", lambda m: cluster_of(m)["authOptions"].update(enableK8sTokenAuth=True), "not for RayJobs"),
    ("fixed", lambda m: cluster_of(m)["workerGroupSpecs"][0].pop("minReplicas"), "are missing"),
    (
        "fixed",
        lambda m: cluster_of(m)["workerGroupSpecs"][0].update(maxReplicas=1),
        "replicas <= maxReplicas",
    ),
    ("fixed", ray_container_second, "has to be the first, found sidecar"),
    ("fixed", lambda m: head_of(m).update(containers=[]), "head: no container"),
    ("fixed", lambda m: head_of(m)["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
    ("fixed", unequal_gpus, "the same in requests and limits"),
    (
        "fixed",
        lambda m: head_of(m)["containers"][0]["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "a"}),
        "KubeRay's to set",
    ),
    ("queued", lambda m: cluster_of(m).update(enableInTreeAutoscaling=True), "fixed sizes only"),
    ("queued", many_groups, "8 groups, Kueue takes 7"),
    (
        "queued",
        lambda m: cluster_of(m)["workerGroupSpecs"][0].update(groupName="head"),
        "name head for itself",
    ),
    ("queued", lambda m: m["spec"].update(shutdownAfterJobFinishes=False), "waits for what is held"),
    ("elastic", lambda m: head_of(m).update(restartPolicy="Always"), "head: restartPolicy Always"),
    ("elastic", lambda m: pods(m)["worker"].update(restartPolicy="OnFailure"), "restartPolicy OnFailure"),
    ("elastic", lambda m: cluster_of(m).pop("autoscalerOptions"), "expected v2"),
    ("elastic", lambda m: m["spec"].update(entrypoint="ddip-ray reconstruct a"), "say --gpus or --workers"),
]


@pytest.mark.parametrize(("kind", "broken", "reason"), REFUSED, ids=[reason for _, _, reason in REFUSED])
def test_broken_manifests_are_refused(kind: str, broken: Break, reason: str) -> None:
    manifest = copy.deepcopy(rendered(**SITES[kind]))
    broken(manifest)
    with pytest.raises(InputError) as refused:
        check_rayjob(manifest)
    assert reason in refused.value.message


WRONG: list[tuple[Break, str]] = [
    (lambda m: m["spec"].update(backoffLimit="two"), "is not of type"),
    (lambda m: m["spec"].update(bakoffLimit=2), "bakoffLimit"),
    (lambda m: cluster_of(m).pop("headGroupSpec"), "'headGroupSpec' is a required property"),
    (lambda m: cluster_of(m)["authOptions"].update(mode="tokens"), "is not one of"),
    (lambda m: head_of(m)["containers"][0].update(imagePullPolice="Always"), "imagePullPolice"),
]


@pytest.mark.parametrize(("broken", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_the_schema_that_we_test_with_is_strict(broken: Break, reason: str) -> None:
    manifest = copy.deepcopy(rendered())
    broken(manifest)
    assert any(reason in error for error in schema_errors(manifest))
