"""A command as a RayJob of KubeRay: a Ray cluster of its own, that ends with it.

The driver runs on Ray's head. When it or the cluster fails, KubeRay makes a new cluster and runs the same
command again, which goes on from its snapshots. No other fault tolerance is needed, such as Ray's with Redis.
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
from ddip_ray.launch.kubernetes.sizing import Layout

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_IDLE_SECONDS = 300  # before the autoscaler gives a node back
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def rayjob(site: KubernetesSite, name: str, command: LaunchedCommand, layout: Layout, memory: str) -> Object:
    """The manifest; ``command`` says how many workers it uses, ``memory`` is of a worker pod."""
    labels = {"app.kubernetes.io/name": "ddip-ray", "app.kubernetes.io/managed-by": "ddip-ray"}
    if isinstance(site.scheduling, Fixed) and site.scheduling.queue:
        labels[QUEUE_LABEL] = site.scheduling.queue
    spec = {
        # Not HTTPMode: a job of Kubernetes keeps what the driver wrote, for `kubectl logs`. Not SidecarMode:
        # KubeRay's sidecar is not as confined as "restricted" namespaces demand.
        "submissionMode": "K8sJobMode",
        "entrypoint": command.shell,  # taken apart and quoted anew by two shells on its way
        "backoffLimit": site.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": site.keep_seconds,
        "rayClusterSpec": _cluster(site, layout, memory),
        "submitterPodTemplate": submitter_pod(site),
    }
    metadata = {"name": name, "namespace": site.namespace, "labels": labels}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def as_yaml(manifest: Object) -> str:
    """For people and for kubectl."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=100)


def _cluster(site: KubernetesSite, layout: Layout, memory: str) -> Object:
    spec: Object = {"rayVersion": version("ray"), "authOptions": {"mode": "token"}}
    if isinstance(site.scheduling, Elastic):
        spec |= {"enableInTreeAutoscaling": True, "autoscalerOptions": _autoscaler()}
    if site.isolate_clusters:
        spec["networkPolicy"] = _isolation()
    params = {"object-store-memory": str(OBJECT_STORE_BYTES)}
    head = {"rayStartParams": {"num-cpus": "0", **params}, "template": head_pod(site)}
    return spec | {"headGroupSpec": head, "workerGroupSpecs": [_workers(site, layout, memory, params)]}


def _workers(site: KubernetesSite, layout: Layout, memory: str, params: dict[str, str]) -> Object:
    fewest = site.scheduling.min_nodes if isinstance(site.scheduling, Elastic) else layout.nodes
    return {
        "groupName": "workers",
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": layout.nodes,
        "rayStartParams": dict(params),
        "template": worker_pod(site, layout, memory),
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
    """KubeRay lets a cluster's pods and its submitter in; the operator itself has to be named."""
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(_OPERATOR)}}
    rule = {"from": [operator], "ports": [{"port": 8265, "protocol": "TCP"}]}
    return {"mode": "DenyAllIngress", "head": {"ingressRules": [rule]}}


class _Dumper(yaml.SafeDumper):
    """No anchors, and scripts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
