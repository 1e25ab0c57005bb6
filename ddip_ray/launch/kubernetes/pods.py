"""The pods of a job: Ray's head with the driver, Ray's workers, and the submitter of the command."""

from __future__ import annotations

from typing import Any

from ddip_ray.launch.kubernetes.site import Elastic, KubernetesSite
from ddip_ray.launch.kubernetes.sizing import SHARED_MEMORY, JobSize

Object = dict[str, Any]  # a piece of a manifest

HOME = "/home/ddip"  # in the image
OBJECT_STORE_BYTES = 200 * 2**20  # for control messages; no volume passes through it
STOPPING = "SIGTERM: stopping"  # the driver writes this when it has been told to stop

# Kubernetes announces the end of a pod only to its first process, which is Ray's. So this script tells the
# driver, and waits for it. If Ray has told it before (when a RayJob is deleted), a second signal would end it
# at once.
_STOP_DRIVER = f"""\
driver=$(grep -lsz '[/]bin/ddip-ray$' /proc/[0-9]*/cmdline | cut -d/ -f3 | head -n 1)
[ -n "$driver" ] || exit 0
grep -qs '{STOPPING}' /tmp/ray/session_latest/logs/job-driver-*.log || kill -TERM "$driver"
while kill -0 "$driver" 2>/dev/null; do sleep 1; done
"""
# A snapshot needs all workers; they end with the driver.
_AWAIT_DRIVER = "while grep -qsz '^ray::WorkerActor' /proc/[0-9]*/cmdline; do sleep 1; done\n"


def head_pod(site: KubernetesSite) -> Object:
    """The pod of Ray's own processes and the driver; no worker is placed on it."""
    size = {"cpu": site.head.cpus, "memory": site.head.memory}
    container = _container("ray-head", site, size, {"memory": site.head.memory})
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
    ]
    container["env"].append({"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(site.grace_seconds)})
    container["lifecycle"] = _before_stopping(_STOP_DRIVER)
    # The autoscaler beside Ray asks Kubernetes for nodes; nothing else in a job talks to it.
    return _pod(site, container, with_token=isinstance(site.scheduling, Elastic))


def worker_pod(site: KubernetesSite, size: JobSize, memory: str) -> Object:
    """The pod of one Ray node.

    Args:
        site: the cluster.
        size: the number of its workers, and whether they are on GPUs.
        memory: its memory, in Kubernetes' notation.
    """
    cpus = site.workers.cpus_per_gpu * size.per_node if size.on_gpus else size.per_node
    gpus = {site.gpu_resource: str(size.per_node)} if size.on_gpus else {}
    # No limit of CPU: it would throttle a worker while cores of its node idle.
    container = _container(
        "ray-worker", site, {"cpu": str(cpus), "memory": memory, **gpus}, {"memory": memory, **gpus}
    )
    container["lifecycle"] = _before_stopping(_AWAIT_DRIVER)
    pod = _pod(site, container)
    tolerations = [toleration.model_dump(exclude_none=True) for toleration in site.tolerations]
    if size.on_gpus:
        tolerations.append({"key": site.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    if site.node_selector:
        pod["spec"]["nodeSelector"] = dict(site.node_selector)
    if tolerations:
        pod["spec"]["tolerations"] = tolerations
    return pod


def submitter_pod(site: KubernetesSite) -> Object:
    """The pod that hands the command to Ray and shows what the driver writes; KubeRay adds its command."""
    container = {
        "name": "ray-job-submitter",
        "image": site.image,
        "env": [{"name": "HOME", "value": HOME}],
        "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "securityContext": confined(),
        "volumeMounts": scratch_mounts(),
    }
    spec = _identity(site) | {"containers": [container], "volumes": _scratch_volumes()}
    return {"spec": spec}


def confined() -> Object:
    """The security settings that "restricted" namespaces demand, with a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def scratch_mounts() -> list[Object]:
    """The places a container can write to, apart from the claim."""
    return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": HOME}]


def _scratch_volumes() -> list[Object]:
    return [{"name": "tmp", "emptyDir": {}}, {"name": "home", "emptyDir": {}}]


def _container(name: str, site: KubernetesSite, requests: Object, limits: Object) -> Object:
    claim, objects = site.storage.claim, site.storage.object_store
    env = [
        {"name": "HOME", "value": HOME},
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        # The scripts before the stop have waited already.
        {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"},
    ]
    if objects and objects.endpoint_url:
        env.append({"name": "AWS_ENDPOINT_URL", "value": objects.endpoint_url})
    mounts = [*scratch_mounts(), {"name": "dshm", "mountPath": "/dev/shm"}]
    container: Object = {
        "name": name,
        "image": site.image,
        "workingDir": claim.mount_path if claim else HOME,  # relative paths of the command begin here
        "env": env,
        "resources": {"requests": requests, "limits": limits},
        "securityContext": confined(),
        "volumeMounts": mounts,
    }
    if claim:
        mounts.append({"name": "data", "mountPath": claim.mount_path})
    if objects:
        container["envFrom"] = [{"secretRef": {"name": objects.secret}}]
    return container


def _pod(site: KubernetesSite, container: Object, with_token: bool = False) -> Object:
    memory = {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY // 2**20}Mi"}
    volumes = [*_scratch_volumes(), {"name": "dshm", "emptyDir": memory}]
    if site.storage.claim:
        claim = {"claimName": site.storage.claim.name}
        volumes.append({"name": "data", "persistentVolumeClaim": claim})
    spec = _identity(site) | {
        "automountServiceAccountToken": with_token,
        "terminationGracePeriodSeconds": site.grace_seconds,
        "containers": [container],
        "volumes": volumes,
    }
    return {"spec": spec}


def _identity(site: KubernetesSite) -> Object:
    """The user and group of a pod, which are never root."""
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": site.user_id,
            "runAsGroup": site.user_id,
            "fsGroup": site.user_id,
            "fsGroupChangePolicy": "OnRootMismatch",  # not file by file through a large claim
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if site.service_account:
        spec["serviceAccountName"] = site.service_account
    if site.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in site.image_pull_secrets]
    return spec


def _before_stopping(script: str) -> Object:
    return {"preStop": {"exec": {"command": ["/bin/bash", "-c", script]}}}
