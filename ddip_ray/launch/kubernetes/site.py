"""The site file of a Kubernetes cluster, for `ddip-ray launch k8s`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ddip_ray.launch.site import Site

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def _not_the_root(path: str) -> str:
    if path.rstrip("/") == "":
        raise ValueError("expected a folder, e.g. /data")
    return path.rstrip("/")


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(Ki|Mi|Gi|Ti)$")]
Cpus = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*m?$")]
Resource = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$")]
Image = Annotated[str, StringConstraints(pattern=r"^\S+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$")]  # not "latest"
Folder = Annotated[str, StringConstraints(pattern=r"^/[^\s:]*$"), AfterValidator(_not_the_root)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]


def memory_bytes(quantity: str) -> int:
    """The bytes of a quantity such as ``4Gi``, as `Memory` allows it."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


class Claim(Site):
    """A PersistentVolumeClaim that all pods mount; ReadWriteMany if there are several nodes."""

    name: Name
    mount_path: Folder = "/data"


class ObjectStore(Site):
    """An S3 store; ``secret`` holds AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_REGION."""

    secret: Name
    endpoint_url: Url | None = None


class Storage(Site):
    """The place of acquisitions, results and snapshots; files inside a pod are lost with it."""

    claim: Claim | None = None
    object_store: ObjectStore | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.claim is None and self.object_store is None:
            raise ValueError("expected claim, object_store or both: snapshots must outlive the pods")
        return self


class Fixed(Site):
    """A job with a fixed number of nodes; with ``queue``, Kueue starts all of them or none."""

    mode: Literal["fixed"] = "fixed"
    queue: Label | None = None  # name of a LocalQueue in the namespace


class Elastic(Site):
    """A job whose nodes Ray's autoscaler asks for while there is work, and gives back afterwards."""

    mode: Literal["elastic"]
    min_nodes: int = Field(1, ge=1)  # a run starts on these; without any it would not start
    max_nodes: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes {self.min_nodes} is more than max_nodes {self.max_nodes}")
        return self


class Toleration(Site):
    """A toleration, with Kubernetes' own fields."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class HeadSize(Site):
    """Size of the pod with Ray's own processes and the driver; no volume passes through it."""

    cpus: Cpus = "1"
    memory: Memory = "6Gi"


class WorkerSize(Site):
    """Size of the worker pods; the memory counts where the acquisition cannot be opened from here."""

    cpus_per_gpu: int = Field(4, ge=1)
    memory_per_gpu: Memory = "24Gi"
    memory_per_cpu: Memory = "4Gi"


class KubernetesSite(Site):
    """One namespace of a cluster with KubeRay 1.7 or newer."""

    namespace: Label = "ddip-ray"
    image: Image
    image_pull_secrets: tuple[Name, ...] = ()
    service_account: Name | None = None
    gpu_resource: Resource = "nvidia.com/gpu"
    node_selector: dict[str, str] = Field(default_factory=dict)  # for worker pods, like the tolerations
    tolerations: tuple[Toleration, ...] = ()
    storage: Storage
    scheduling: Annotated[Fixed | Elastic, Field(discriminator="mode")] = Fixed()
    head: HeadSize = HeadSize()
    workers: WorkerSize = WorkerSize()
    retries: int = Field(2, ge=1, le=20)  # each on a new Ray cluster, from the last snapshot
    grace_seconds: int = Field(300, ge=30, le=7200)  # enough for a step and a snapshot
    keep_seconds: int = Field(60, ge=0)  # how long the Ray cluster and its GPUs stay after the end
    user_id: int = Field(1000, ge=1)  # also the group; in the image, and of the files on the claim
    isolate_clusters: bool = False  # needs KubeRay's feature gate RayClusterNetworkPolicy
