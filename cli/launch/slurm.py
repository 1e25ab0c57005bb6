"""`ddip-ray launch slurm -- COMMAND`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..interrupts import EXIT_CAN_RESUME
from ..output import say
from .launched import options_of

if TYPE_CHECKING:
    from ddip_ray.launch.slurm import SlurmJob

FOLLOW_SECONDS = 1.0


def slurm(
    context: typer.Context,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file that describes the cluster; see deploy/slurm/site.example.yaml. Default: Slurm's "
            "own defaults.",
        ),
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of nodes of each job; all must be alike.")
    ] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, metavar="N", help="Number of GPUs on each node.")] = 0,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of CPU cores on each node. Default: the site's cpus_per_gpu for each GPU.",
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="D-HH:MM:SS", help="Time limit of the job. Default: the site's.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the job and of its log.")] = "ddip-ray",
    jobs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of jobs that share the volumes of a cohort.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the script instead of submitting it.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show the job's output until it ends.")] = True,
) -> None:
    """Submit the command that follows -- as a Slurm job.

    Example: ddip-ray launch slurm --nodes 2 --gpus-per-node 4 -- reconstruct vol.zarr
    """
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
        "  resume: launch it again; it continues from the last snapshot"
    )
    if follow and jobs == 1:
        raise typer.Exit(followed(job))


def followed(job: SlurmJob) -> int:
    """The exit code of ``job``, whose output is shown until it ends; Ctrl-C leaves the job running."""
    import time

    try:
        return job.follow(write, lambda: time.sleep(FOLLOW_SECONDS))
    except KeyboardInterrupt:
        say(f"job {job.number} keeps running; its log is {job.facts()['StdOut']}")
        return 0


def write(text: str) -> None:
    """Print a part of the job's output as it is."""
    print(text, end="", flush=True)
