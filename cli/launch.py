"""`ddip-ray launch`: the same commands as jobs of a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import launch_k8s
from .interrupts import EXIT_CAN_RESUME
from .launched import options_of

if TYPE_CHECKING:
    from ddip_ray.launch.slurm import SlurmJob

app = typer.Typer(no_args_is_help=True, help="Run a command as a job of a cluster, on its nodes together.")
ANY_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": True}
FOLLOW_SECONDS = 1.0

Nodes = Annotated[int, typer.Option(min=1, help="Nodes, all of one kind.")]
GpusPerNode = Annotated[int, typer.Option(min=0, help="GPUs of each node.")]


@app.command("slurm", context_settings=ANY_COMMAND)
def slurm(
    context: typer.Context,
    site: Annotated[Path | None, typer.Option(help="YAML: what the site is like.")] = None,
    nodes: Nodes = 1,
    gpus_per_node: GpusPerNode = 0,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="Cores of each node. Default: the site's cpus_per_gpu.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="D-HH:MM:SS", help="Limit. Default: the site's.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the job, and of its log.")] = "ddip-ray",
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that share the volumes of a cohort.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, and submit nothing.")] = False,
    follow: Annotated[bool, typer.Option(help="Show what the job writes, until it ends.")] = True,
) -> None:
    """Submit what stands after -- as a Slurm job: launch slurm --nodes 2 … -- reconstruct vol.zarr"""
    from ddip_ray.launch.command import LaunchedCommand
    from ddip_ray.launch.site import load_site
    from ddip_ray.launch.slurm import SlurmJob, SlurmRequest, SlurmSite, render

    where = load_site(site, SlurmSite)
    command = LaunchedCommand.parse(context.args)
    options_of(command)
    request = SlurmRequest(command, nodes, gpus_per_node, cpus_per_node, time, name, jobs)
    script = render(request, where, EXIT_CAN_RESUME)
    if dry_run:
        print(script, end="")
        return
    job = SlurmJob.submit(script, Path(where.log_folder))
    say(
        f"job {job.number}\n"
        f"  cancel, with a snapshot: scancel --batch --signal=TERM {job.number}\n"
        f"  cancel at once: scancel {job.number}\n"
        "  resume: the same launch once more; it goes on from the last snapshot"
    )
    if follow and jobs == 1:
        raise typer.Exit(followed(job))


def followed(job: SlurmJob) -> int:
    """Its exit code; Ctrl-C leaves it alone."""
    import time

    try:
        return job.follow(write, lambda: time.sleep(FOLLOW_SECONDS))
    except KeyboardInterrupt:
        say(f"job {job.number} goes on; its log is {job.facts()['StdOut']}")
        return 0


def write(text: str) -> None:
    print(text, end="", flush=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command("wait")
def wait(
    nodes: Nodes = 1,
    gpus_per_node: GpusPerNode = 0,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 300,
    while_pid: Annotated[
        int | None, typer.Option(help="Of the process that starts the nodes; give up when it ends.")
    ] = None,
) -> None:
    """In a job: wait until the cluster at RAY_ADDRESS has all its nodes, and they are alike."""
    from ddip_ray.engine.ray.wait_for_nodes import is_alive, wait_for_nodes

    found = wait_for_nodes(nodes, gpus_per_node, seconds, lambda: while_pid is None or is_alive(while_pid))
    for node in found:
        print(f"ddip-ray: node {node}", flush=True)


app.command("k8s", context_settings=ANY_COMMAND)(launch_k8s.k8s)
