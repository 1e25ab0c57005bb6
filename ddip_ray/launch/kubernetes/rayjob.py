"""RayJobs of KubeRay: a command with a Ray cluster of its own, which ends with it.

The driver runs on Ray's head. When it or the cluster fails, KubeRay makes a new cluster and runs the same
command again, which goes on from its snapshots. Ray's own fault tolerance (with Redis) is not needed.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import yaml

from ddip_ray.launch.command import LaunchedCommand
from ddip_ray.launch.kubernetes.pods import (
    HOME,
    OBJECT_STORE_BYTES,
    Object,
    confined,
    head_pod,
    scratch_mounts,
    submitter_pod,
    worker_pod,
)
from ddip_ray.launch.kubernetes.site import Elastic, Fixed, KubernetesSite
from ddip_ray.launch.kubernetes.sizing import JobSize

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_IDLE_SECONDS = 300  # after which the autoscaler gives a node back
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def rayjob(site: KubernetesSite, name: str, command: LaunchedCommand, size: JobSize, memory: str) -> Object:
    """The manifest of a job.

    Args:
        site: the cluster.
        name: name of the job.
        command: the command to run; it names its number of workers.
        size: the nodes, and the workers on each.
        memory: memory of a worker pod, in Kubernetes' notation.
    """
    labels = {"app.kubernetes.io/name": "ddip-ray", "app.kubernetes.io/managed-by": "ddip-ray"}
    if isinstance(site.scheduling, Fixed) and site.scheduling.queue:
        labels[QUEUE_LABEL] = site.scheduling.queue
    spec = {
        # Not HTTPMode: a job of Kubernetes keeps what the driver wrote, for `kubectl logs`. Not SidecarMode:
        # KubeRay's sidecar is not as confined as "restricted" namespaces demand.
        "submissionMode": "K8sJobMode",
        "entrypoint": command.shell,  # two shells split and quote it on its way
        "backoffLimit": site.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": site.keep_seconds,
        "rayClusterSpec": _cluster(site, size, memory),
        "submitterPodTemplate": submitter_pod(site),
    }
    metadata = {"name": name, "namespace": site.namespace, "labels": labels}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def as_yaml(manifest: Object) -> str:
    """The manifest as YAML, for people and for kubectl."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=100)


def _cluster(site: KubernetesSite, size: JobSize, memory: str) -> Object:
    spec: Object = {"rayVersion": version("ray"), "authOptions": {"mode": "token"}}
    if isinstance(site.scheduling, Elastic):
        spec |= {"enableInTreeAutoscaling": True, "autoscalerOptions": _autoscaler()}
    if site.isolate_clusters:
        spec["networkPolicy"] = _isolation()
    params = {"object-store-memory": str(OBJECT_STORE_BYTES)}
    head = {"rayStartParams": {"num-cpus": "0", **params}, "template": head_pod(site)}
    return spec | {"headGroupSpec": head, "workerGroupSpecs": [_workers(site, size, memory, params)]}


def _workers(site: KubernetesSite, size: JobSize, memory: str, params: dict[str, str]) -> Object:
    fewest = site.scheduling.min_nodes if isinstance(site.scheduling, Elastic) else size.nodes
    return {
        "groupName": "workers",
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": size.nodes,
        "rayStartParams": dict(params),
        "template": worker_pod(site, size, memory),
    }


def _autoscaler() -> Object:
    return {
        "version": "v2",
        "idleTimeoutSeconds": _IDLE_SECONDS,
        "env": [{"name": "HOME", "value": HOME}],
        "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "securityContext": confined(),
        "volumeMounts": scratch_mounts(),
    }


def _isolation() -> Object:
    """Network rules: KubeRay admits a cluster's pods and its submitter; its operator has to be named."""
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(_OPERATOR)}}
    rule = {"from": [operator], "ports": [{"port": 8265, "protocol": "TCP"}]}
    return {"mode": "DenyAllIngress", "head": {"ingressRules": [rule]}}


class _Dumper(yaml.SafeDumper):
    """Writes YAML without anchors, and scripts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
