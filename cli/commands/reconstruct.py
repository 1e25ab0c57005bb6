"""`ddip-ray reconstruct STORE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..interrupts import stoppable
from ..options import (
    Adapt,
    Address,
    AsJson,
    ConfigFile,
    Gpus,
    Method,
    Overwrite,
    Preset,
    Prior,
    RunSeed,
    SnapshotEvery,
    Workers,
)
from ..output import Report, format_seconds, print_json, progress, say

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event, RunResult


class ExecutorChoice(StrEnum):
    """Where the workers run."""

    ray = "ray"
    local = "local"


def reconstruct(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Acquisition to reconstruct.")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="OME-Zarr image to write. Default: STORE-METHOD.zarr, beside the acquisition.",
        ),
    ] = None,
    method: Method = None,
    preset: Preset = None,
    adapt: Adapt = None,
    config: ConfigFile = None,
    prior: Prior = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Adapter of an earlier run (adapter.safetensors) to start from. Default: none.",
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="RESULT",
            help="Earlier result to start sampling from, with noise added to it, instead of pure noise.",
        ),
    ] = None,
    seed: RunSeed = None,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
    executor: Annotated[
        ExecutorChoice | None,
        typer.Option(
            help="`ray`, workers in processes of a Ray cluster; `local`, one worker in this process. "
            "Default: ray for several workers or a GPU, otherwise local."
        ),
    ] = None,
    snapshot_every: SnapshotEvery = "10m",
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning and delete earlier snapshots.")
    ] = False,
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of times that lost workers are replaced.")
    ] = 3,
    elastic: Annotated[
        bool,
        typer.Option("--elastic", help="Continue with fewer workers if lost ones cannot be replaced."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct a volume from an acquisition.

    After an interruption, the same command continues from the last snapshot.
    """
    from ddip_ray.config.load import load_config
    from ddip_ray.engine.planning.layout import Layout
    from ddip_ray.engine.run import Resilience
    from ddip_ray.engine.run import reconstruct as run
    from ddip_ray.tasks.judge.volumes import default_output

    flags = {
        "method": method and method.value,
        "preset": preset and preset.value,
        "prior": prior,
        "adapter": adapter,
        "start_from": start_from,
        "adaptation": adapt and {"policy": adapt.value},
        "seed": seed,
    }
    settings = load_config(config, flags)
    target = output or default_output(store, settings.method)
    with progress(settings.method) as report, stoppable() as should_stop:
        result = run(
            store,
            target,
            settings,
            layout=Layout(workers, gpus, executor.value if executor else None, elastic=elastic),
            resilience=Resilience(snapshot_every, restart, max_failures),
            overwrite=overwrite,
            on_event=watcher(report),
            should_stop=should_stop,
        )
    if as_json:
        print_json(asdict(result))
    else:
        print(in_words(result))
        print(f"\nnext: ddip-ray evaluate {result.output}")


def watcher(report: Report) -> Callable[[Event], None]:
    """A listener for the engine's events: it shows steps as progress and prints messages on stderr."""
    from ddip_ray.engine.events import StepEvent

    def on_event(event: Event) -> None:
        if not isinstance(event, StepEvent):
            say(event.text)
            return
        words = [f"residual {event.residual:.4f}"]
        if event.loss is not None:
            words.append(f"loss {event.loss:.4g}")
        words.append(f"{format_seconds(event.seconds_left)} left")
        report(event.step, event.num_steps, "  ".join(words))

    return on_event


def in_words(result: RunResult) -> str:
    """The outcome of a run in a few lines."""
    calls = f", {result.nfe} network calls per slice" if result.nfe else ""
    calls += f" and {result.adapt_nfe} for adaptation and validation" if result.adapt_nfe else ""
    workers = f"{result.num_workers} worker" + ("s" if result.num_workers > 1 else "")
    lines = [
        f"{result.method}: {result.num_slices} slices on {workers} "
        f"in {format_seconds(result.seconds)}{calls}",
        f"residual {result.residual:.4f}, relative to the norm of the measurements",
        f"result  {result.output}",
    ]
    lines += result.notes
    if result.adapter_path:
        lines.append(f"adapter {result.adapter_path}")
    return "\n".join(lines)
