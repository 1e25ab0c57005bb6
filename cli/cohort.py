"""`ddip-ray cohort`: many volumes, on whatever there is, until all are done."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from .interrupts import EXIT_CAN_RESUME, stoppable
from .options import Address, AsJson, ConfigFile, Prior
from .output import format_seconds, format_table, print_json
from .reconstruct import Adapt, Method, Preset

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event
    from ddip_ray.tasks.cohort.ledger import Entry, Ledger
    from ddip_ray.tasks.cohort.slots import Slots

app = typer.Typer(no_args_is_help=True, help="Reconstruct many volumes, and survive the night.")

Folder = Annotated[Path, typer.Argument(help="The folder of a cohort.")]
Gpus = Annotated[int | None, typer.Option(min=1, help="GPUs to use. Default: all there are.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers, when there is no GPU. Default: one a core.")
]
EXIT_SOME_FAILED = 1


@app.command("run")
def run(
    source: Annotated[str, typer.Argument(help="A YAML file, a folder of stores, or a pattern of paths.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of results, and of the ledger.")],
    method: Annotated[Method | None, typer.Option(help="As of reconstruct.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="As of reconstruct.")] = None,
    adapt: Annotated[Adapt | None, typer.Option(help="As of reconstruct.")] = None,
    config: ConfigFile = None,
    prior: Prior = None,
    seed: Annotated[int | None, typer.Option(help="Of every random draw.")] = None,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
    attempts: Annotated[int, typer.Option(min=1, help="At a volume whose workers or machine fail.")] = 3,
    snapshot_every: Annotated[str, typer.Option(metavar="20|10m|never", help="As of reconstruct.")] = "10m",
    warm_start: Annotated[
        bool,
        typer.Option("--warm-start", help="Adapt from the mean adapter of the tag's earlier volumes (D3IP)."),
    ] = False,
) -> None:
    """Reconstruct every volume of SOURCE; what is done is not done again."""
    from ddip_ray.config.load import given_settings
    from ddip_ray.engine.snapshots.timer import SnapshotTimer
    from ddip_ray.tasks.cohort.ledger import Ledger
    from ddip_ray.tasks.cohort.slots import Slots
    from ddip_ray.tasks.cohort.volumes import find_volumes

    flags = {
        "method": method and method.value,
        "preset": preset and preset.value,
        "adaptation": adapt and {"policy": adapt.value},
        "prior": prior,
        "seed": seed,
    }
    entries = find_volumes(source, given_settings(config, flags), output)
    options = {
        "gpus": gpus,
        "workers": workers,
        "attempts": attempts,
        "snapshot_every": snapshot_every,
        "warm_start": warm_start,
    }
    SnapshotTimer.every(snapshot_every)
    slots = Slots.asked_for(workers, gpus)
    ledger = Ledger.begin(output, options)
    ledger.add(entries)
    drive(ledger, slots, options)


@app.command("resume")
def resume(
    folder: Folder,
    failed: Annotated[bool, typer.Option("--failed", help="Also what failed, once more.")] = False,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Go on with a cohort, as it was begun or on other GPUs or workers."""
    from ddip_ray.tasks.cohort.ledger import Ledger
    from ddip_ray.tasks.cohort.slots import Slots

    ledger = Ledger(folder)
    options = ledger.options
    if gpus is not None or workers is not None:
        options |= {"gpus": gpus, "workers": workers}
    slots = Slots.asked_for(options["workers"], options["gpus"])
    if failed:
        print(f"{ledger.retry_failed()} that failed wait again", file=sys.stderr)
    drive(ledger, slots, options)


def drive(ledger: Ledger, slots: Slots, options: dict[str, Any]) -> None:
    """Until nothing waits; exit code 1 when volumes have failed."""
    from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary
    from ddip_ray.tasks.cohort.attempt import VolumeReconstruction
    from ddip_ray.tasks.cohort.driver import Cohort
    from ddip_ray.tasks.cohort.ledger import VolumeState

    folder = ledger.path.parent
    library = AdapterLibrary((folder / "adapters").absolute()) if options["warm_start"] else None
    with stoppable() as should_stop:
        attempt = VolumeReconstruction(ledger, slots, options["snapshot_every"], library, say)
        Cohort(ledger, slots, options["attempts"], attempt, should_stop, say).run()
    entries = ledger.entries()
    print(counts(entries))
    print(f"\nnext: ddip-ray cohort report {folder}")
    if any(entry.state == VolumeState.RUNNING for entry in entries):
        print("other drivers have the rest; `cohort resume` takes over what they lose", file=sys.stderr)
        raise typer.Exit(EXIT_CAN_RESUME)
    if any(entry.state == VolumeState.FAILED for entry in entries):
        raise typer.Exit(EXIT_SOME_FAILED)


def say(name: str, event: Event) -> None:
    from ddip_ray.engine.events import Message

    if isinstance(event, Message):
        print(f"{name}: {event.text}", file=sys.stderr, flush=True)


@app.command("status")
def status(
    folder: Folder,
    watch: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.2, help="Look again so often, until all is done.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Which volumes wait, run, are done or have failed."""
    from ddip_ray.tasks.cohort.ledger import Ledger

    if watch is not None and as_json:
        raise InputError("--watch is for people, --json for programs", "Give one of them.")
    ledger = Ledger(folder)
    entries = ledger.entries()
    if as_json:
        print_json([asdict(entry) for entry in entries])
    elif watch is None:
        print(in_words(entries))
    else:
        follow(ledger, watch)


def follow(ledger: Ledger, seconds: float) -> None:
    """A table that changes in place."""
    import time

    from rich.live import Live
    from rich.text import Text

    from ddip_ray.tasks.cohort.ledger import VolumeState

    with Live(auto_refresh=False) as live:
        while True:
            entries = ledger.entries()
            live.update(Text(in_words(entries)), refresh=True)
            if not any(entry.state in (VolumeState.WAITING, VolumeState.RUNNING) for entry in entries):
                return
            time.sleep(seconds)


def in_words(entries: list[Entry]) -> str:
    """A line a volume, and how many there are of each kind."""
    rows = [["volume", "state", "attempts", "workers", "step", "time", "residual", "PSNR", ""]]
    for entry in entries:
        rows.append(
            [
                entry.name,
                entry.state,
                str(entry.attempts),
                str(entry.num_workers or "-"),
                f"{entry.step}/{entry.num_steps}" if entry.num_steps else "-",
                "-" if entry.seconds is None else format_seconds(entry.seconds),
                "-" if entry.residual is None else f"{entry.residual:.4f}",
                "-" if entry.psnr is None else f"{entry.psnr:.2f}",
                entry.error.partition("\n")[0],
            ]
        )
    return f"{format_table(rows, right=range(2, 8))}\n\n{counts(entries)}"


def counts(entries: list[Entry]) -> str:
    """How many volumes are in each state."""
    from ddip_ray.tasks.cohort.ledger import VolumeState

    found = {state: sum(entry.state == state for entry in entries) for state in VolumeState}
    return f"{len(entries)} volumes: " + ", ".join(f"{n} {state}" for state, n in found.items() if n)


@app.command("report")
def report(
    folder: Folder,
    pictures: Annotated[bool, typer.Option(help="Draw every volume that is done.")] = True,
) -> None:
    """A table for a spreadsheet, report.csv, and a picture a volume."""
    from ddip_ray.tasks.cohort.ledger import Ledger
    from ddip_ray.tasks.cohort.report import write_csv, write_pictures

    entries = Ledger(folder).entries()
    write_csv(entries, folder / "report.csv")
    print(counts(entries))
    print(folder / "report.csv")
    if pictures:
        drawn = write_pictures(entries, folder / "pictures", lambda text: print(text, file=sys.stderr))
        print(f"{len(drawn)} pictures in {folder / 'pictures'}")
