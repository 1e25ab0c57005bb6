"""`ddip-ray launch wait`, which the scripts of jobs call."""

from __future__ import annotations

from typing import Annotated

import typer


def wait(
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Number of nodes to wait for.")] = 1,
    gpus_per_node: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of GPUs that each node must have.")
    ] = 0,
    seconds: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Timeout in seconds.")] = 300,
    while_pid: Annotated[
        int | None,
        typer.Option(
            metavar="PID",
            help="Process id of the program that starts the nodes; the wait fails when it ends. Default: "
            "none.",
        ),
    ] = None,
) -> None:
    """Inside a job, wait until all nodes have joined Ray.

    The cluster is the one at RAY_ADDRESS. Nodes that are not alike are an error.
    """
    from ddip_ray.engine.ray.wait_for_nodes import is_alive, wait_for_nodes

    found = wait_for_nodes(nodes, gpus_per_node, seconds, lambda: while_pid is None or is_alive(while_pid))
    for node in found:
        print(f"ddip-ray: node {node}", flush=True)
