"""`ddip-ray launch k8s -- COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

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
        Path | None, typer.Option(help="YAML: what the cluster is like; see deploy/kubernetes/README.md.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Worker pods. Default: 1 or, of an elastic site, all it allows.")
    ] = None,
    gpus_per_node: Annotated[int | None, typer.Option(min=1, help="GPUs of each, one worker each.")] = None,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="CPU workers of each, where there are no GPUs.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the RayJob. Default: the command's, and a number.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifest, and submit nothing.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show what the job writes, until it ends.")] = True,
) -> None:
    """Submit what stands after -- as a RayJob: launch k8s --site site.yaml … -- reconstruct vol.zarr"""
    from ddip_ray.launch.command import LaunchedCommand
    from ddip_ray.launch.kubernetes.checks import check_rayjob
    from ddip_ray.launch.kubernetes.kubectl import Kubectl
    from ddip_ray.launch.kubernetes.rayjob import as_yaml, rayjob
    from ddip_ray.launch.kubernetes.site import KubernetesSite
    from ddip_ray.launch.kubernetes.sizing import JobSize, node_memory
    from ddip_ray.launch.site import load_site

    if site is None:
        raise InputError(
            "no --site: a job needs an image and a place for its data",
            "See deploy/kubernetes/site.example.yaml.",
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
        "  resume: the same launch once more; it goes on from the last snapshot"
    )
    if follow:
        raise typer.Exit(followed(kubectl.namespace, title))


def worker_memory(
    command: LaunchedCommand, given: Mapping[str, Any], site: KubernetesSite, layout: JobSize
) -> int:
    """Host memory of a worker: of the volume where it can be opened from here, or as the site has it."""
    from ddip_ray.launch.kubernetes.paths import require_reachable
    from ddip_ray.launch.kubernetes.sizing import default_bytes, worker_host_bytes

    store = str(given.get("store") or given.get("source") or given.get("folder"))
    output = given.get("output")
    require_reachable(command, store, None if output is None else str(output), site.storage)
    if command.name.startswith("cohort"):
        say("memory is the site's default: a cohort has volumes of any size")
        return default_bytes(site, layout)
    found = worker_host_bytes(store, lambda: settings_of(given), layout, say)
    return default_bytes(site, layout) if found is None else found


def settings_of(given: Mapping[str, Any]) -> RunConfig:
    """Of `reconstruct`, as it would have them."""
    from ddip_ray.config.load import load_config

    chosen = {name: given[name] and given[name].value for name in ("method", "preset")}
    return load_config(given["config"], chosen | {"prior": given["prior"]})


def new_name(command: LaunchedCommand) -> str:
    """A job that is over keeps its name until it is deleted, so every one has a name of its own."""
    import secrets

    return f"{command.name.replace(' ', '-')}-{secrets.token_hex(4)}"


def followed(namespace: str, name: str) -> int:
    """The exit code; Ctrl-C leaves the job alone."""
    from ddip_ray.launch.kubernetes.kubectl import Kubectl, follow

    try:
        end = follow(Kubectl(namespace), name, say)
    except KeyboardInterrupt:
        say(f"rayjob {name} goes on; see kubectl logs --follow job/{name} --namespace {namespace}")
        return 0
    return report(end)


def report(end: JobState) -> int:
    if end.has_succeeded:
        return 0
    if end.message:
        say(end.message)
    say("  go on with the same launch: it begins at the last snapshot")
    return EXIT_FAILED


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
