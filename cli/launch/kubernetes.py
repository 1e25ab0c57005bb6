"""`ddip-ray launch k8s -- COMMAND`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from ..output import say
from .launched import options_of

if TYPE_CHECKING:
    from ddip_ray.config.settings import RunConfig
    from ddip_ray.launch.command import LaunchedCommand
    from ddip_ray.launch.kubernetes.kubectl import JobState
    from ddip_ray.launch.kubernetes.site import KubernetesSite
    from ddip_ray.launch.kubernetes.sizing import JobSize

EXIT_FAILED = 1


def k8s(
    context: typer.Context,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file that describes the cluster, required; see deploy/kubernetes/README.md.",
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of worker pods. Default: 1; for a site with elastic scheduling its max_nodes.",
        ),
    ] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of GPUs of each pod, one worker each.")
    ] = None,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of CPU workers of each pod, instead of GPUs."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the RayJob. Default: the command and a random number."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifest instead of submitting it.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show the job's output until it ends.")] = True,
) -> None:
    """Submit the command that follows -- as a RayJob of Kubernetes.

    Example: ddip-ray launch k8s --site site.yaml --nodes 2 --gpus-per-node 4 -- reconstruct vol.zarr
    """
    from ddip_ray.launch.command import LaunchedCommand
    from ddip_ray.launch.kubernetes.checks import check_rayjob
    from ddip_ray.launch.kubernetes.kubectl import Kubectl
    from ddip_ray.launch.kubernetes.rayjob import as_yaml, rayjob
    from ddip_ray.launch.kubernetes.site import KubernetesSite
    from ddip_ray.launch.kubernetes.sizing import JobSize, node_memory
    from ddip_ray.launch.site import load_site

    if site is None:
        raise InputError(
            "no --site: it names the container image and where the data are",
            "See deploy/kubernetes/site.example.yaml",
        )
    where = load_site(site, KubernetesSite)
    command = LaunchedCommand.parse(context.args)
    given = options_of(command)
    layout = JobSize.asked_for(where, nodes, gpus_per_node, cpus_per_node)
    memory = node_memory(layout, worker_memory(command, given, where, layout))
    title = name or new_name(command)
    manifest = rayjob(where, title, layout.placed(command), layout, memory)
    check_rayjob(manifest)
    text = as_yaml(manifest)
    if dry_run:
        print(text, end="")
        return
    kubectl = Kubectl(where.namespace)
    kubectl.create(text)
    say(
        f"rayjob {title} in namespace {where.namespace}\n"
        f"  cancel, with a snapshot: kubectl delete rayjob {title} --namespace {where.namespace}\n"
        "  resume: launch it again; it continues from the last snapshot"
    )
    if follow:
        raise typer.Exit(followed(kubectl.namespace, title))


def worker_memory(
    command: LaunchedCommand, given: Mapping[str, Any], site: KubernetesSite, layout: JobSize
) -> int:
    """Bytes of host memory per worker: estimated if the volume opens here, otherwise the site's default."""
    from ddip_ray.launch.kubernetes.paths import require_reachable
    from ddip_ray.launch.kubernetes.sizing import default_bytes, worker_host_bytes

    store = str(given.get("store") or given.get("source") or given.get("folder"))
    output = given.get("output")
    require_reachable(command, store, None if output is None else str(output), site.storage)
    if command.name.startswith("cohort"):
        say("memory is the site's default: the volumes of a cohort can have any size")
        return default_bytes(site, layout)
    found = worker_host_bytes(store, lambda: settings_of(given), layout, say)
    return default_bytes(site, layout) if found is None else found


def settings_of(given: Mapping[str, Any]) -> RunConfig:
    """The configuration that `reconstruct` would make of these options."""
    from ddip_ray.config.load import load_config

    chosen = {name: given[name] and given[name].value for name in ("method", "preset")}
    return load_config(given["config"], chosen | {"prior": given["prior"]})


def new_name(command: LaunchedCommand) -> str:
    """A new name for a job, because a job that has ended keeps its name until it is deleted."""
    import secrets

    return f"{command.name.replace(' ', '-')}-{secrets.token_hex(4)}"


def followed(namespace: str, name: str) -> int:
    """The exit code of a job, whose output is shown until it ends; Ctrl-C leaves the job running."""
    from ddip_ray.launch.kubernetes.kubectl import Kubectl, follow

    try:
        end = follow(Kubectl(namespace), name, say)
    except KeyboardInterrupt:
        say(f"rayjob {name} keeps running; see kubectl logs --follow job/{name} --namespace {namespace}")
        return 0
    return report(end)


def report(end: JobState) -> int:
    """The exit code of a job that has ended; a failure is explained on stderr."""
    if end.has_succeeded:
        return 0
    if end.message:
        say(end.message)
    say("  launch it again: it continues from the last snapshot")
    return EXIT_FAILED
