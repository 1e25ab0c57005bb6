"""`ddip-ray reconstruct STORE`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .interrupts import stoppable
from .options import Address, AsJson, ConfigFile, Overwrite, Prior
from .output import Report, format_seconds, print_json, progress

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event, RunResult


class Method(StrEnum):
    """The names of `ddip_ray.config.settings.MethodName`, without importing it for ``--help``."""

    d3ip = "d3ip"
    d3ip_meta = "d3ip-meta"
    d3ip_mbir = "d3ip-mbir"
    ddip = "ddip"
    scd = "scd"
    dds = "dds"
    ddnm = "ddnm"
    diffpir = "diffpir"
    dps = "dps"
    diffusionmbir = "diffusionmbir"
    score_sde = "score-sde"
    tv = "tv"
    cg = "cg"
    fbp = "fbp"
    zero_filled = "zero-filled"


class Preset(StrEnum):
    """Where settings come from that nobody gave."""

    default = "default"
    paper = "paper"


class Adapt(StrEnum):
    """Who decides how strongly the prior is adapted."""

    fixed = "fixed"
    auto = "auto"


class ExecutorChoice(StrEnum):
    """Where it runs."""

    ray = "ray"
    local = "local"


def reconstruct(
    store: Annotated[str, typer.Argument(help="An acquisition.")],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="The OME-Zarr image to write. Default: STORE-METHOD.zarr beside it."
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help="Default: d3ip.")] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="What we measured to be best, or the method's paper. Default: default."),
    ] = None,
    adapt: Annotated[
        Adapt | None,
        typer.Option(
            help="auto: held-out measurements decide how strongly. Default: d3ip auto, others fixed."
        ),
    ] = None,
    config: ConfigFile = None,
    prior: Prior = None,
    adapter: Annotated[str | None, typer.Option(help="Start from the adapter of an earlier run.")] = None,
    start_from: Annotated[
        str | None, typer.Option(help="An earlier result to start from, with noise on it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random draw.")] = None,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs to use, one worker each. Default: all there are.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Workers, when there is no GPU. Default: a core each; 1 without a prior."),
    ] = None,
    address: Address = None,
    executor: Annotated[
        ExecutorChoice | None,
        typer.Option(help="Default: ray for several workers or GPUs, otherwise in this process."),
    ] = None,
    snapshot_every: Annotated[
        str,
        typer.Option(
            metavar="20|10m|never", help="Steps or time between snapshots, from which this command goes on."
        ),
    ] = "10m",
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever snapshots say.")] = False,
    max_failures: Annotated[int, typer.Option(min=0, help="How often lost workers are replaced.")] = 3,
    elastic: Annotated[
        bool, typer.Option("--elastic", help="Make do with fewer workers when there is no room for all.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Reconstruct a volume from an acquisition; after an interruption, go on."""
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
    """What the engine calls after each step, and when there is something to know."""
    from ddip_ray.engine.events import StepEvent

    def on_event(event: Event) -> None:
        if not isinstance(event, StepEvent):
            print(event.text, file=sys.stderr, flush=True)
            return
        words = [f"residual {event.residual:.4f}"]
        if event.loss is not None:
            words.append(f"loss {event.loss:.4g}")
        words.append(f"{format_seconds(event.seconds_left)} left")
        report(event.step, event.num_steps, "  ".join(words))

    return on_event


def in_words(result: RunResult) -> str:
    """The run in a few lines."""
    calls = f", {result.nfe} network calls a slice" if result.nfe else ""
    calls += f" and {result.adapt_nfe} to adapt or decide" if result.adapt_nfe else ""
    workers = f"{result.num_workers} worker" + ("s" if result.num_workers > 1 else "")
    lines = [
        f"{result.method}: {result.num_slices} slices on {workers} "
        f"in {format_seconds(result.seconds)}{calls}",
        f"residual {result.residual:.4f} of the measurements' norm",
        f"result  {result.output}",
    ]
    lines += result.notes
    if result.adapter_path:
        lines.append(f"adapter {result.adapter_path}")
    return "\n".join(lines)
