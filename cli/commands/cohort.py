"""`ddip-ray cohort`: many volumes, on whatever there is, until all are done."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddip_ray.errors import InputError

from ..interrupts import EXIT_CAN_RESUME, stoppable
from ..options import Adapt, Address, AsJson, ConfigFile, Method, Preset, Prior, RunSeed, SnapshotEvery
from ..output import format_seconds, format_table, print_json, say

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event
    from ddip_ray.tasks.cohort.ledger import Entry, Ledger
    from ddip_ray.tasks.cohort.slots import Slots

app = typer.Typer(no_args_is_help=True, help="Reconstruct many volumes; failures do not stop the rest.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a `cohort run`.")]
Gpus = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Number of GPUs that the volumes share. Default: all GPUs."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of CPU workers that the volumes share, instead of GPUs. Default, without a GPU: one per "
        "core.",
    ),
]
EXIT_SOME_FAILED = 1


@app.command("run")
def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Acquisitions: a folder of .zarr stores, a pattern of paths, or a YAML file that lists them."
            "",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Folder for results and the record of progress."
        ),
    ],
    method: Method = None,
    preset: Preset = None,
    adapt: Adapt = None,
    config: ConfigFile = None,
    prior: Prior = None,
    seed: RunSeed = None,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
    attempts: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Attempts at a volume whose workers or machine fail before it is given up.",
        ),
    ] = 3,
    snapshot_every: SnapshotEvery = "10m",
    warm_start: Annotated[
        bool,
        typer.Option(
            "--warm-start",
            help="Start the adaptation of each volume from the mean adapter of finished volumes with the "
            "same tag (D3IP methods).",
        ),
    ] = False,
) -> None:
    """Reconstruct every volume of SOURCE.

    Volumes that are already done are skipped. The exit code is 1 if some failed.
    """
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
    failed: Annotated[bool, typer.Option("--failed", help="Try volumes that failed once more.")] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of GPUs that the volumes share. Default: as begun."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of CPU workers that the volumes share. Default: as begun."
        ),
    ] = None,
    address: Address = None,
) -> None:
    """Continue a cohort, on the same or other GPUs or workers."""
    from ddip_ray.tasks.cohort.ledger import Ledger
    from ddip_ray.tasks.cohort.slots import Slots

    ledger = Ledger(folder)
    options = ledger.options
    if gpus is not None or workers is not None:
        options |= {"gpus": gpus, "workers": workers}
    slots = Slots.asked_for(options["workers"], options["gpus"])
    if failed:
        say(f"volumes that failed and are tried again: {ledger.retry_failed()}")
    drive(ledger, slots, options)


def drive(ledger: Ledger, slots: Slots, options: dict[str, Any]) -> None:
    """Reconstruct until no volume is waiting; exit code 1 if volumes have failed."""
    from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary
    from ddip_ray.tasks.cohort.attempt import VolumeReconstruction
    from ddip_ray.tasks.cohort.driver import Cohort
    from ddip_ray.tasks.cohort.ledger import VolumeState

    folder = ledger.path.parent
    library = AdapterLibrary((folder / "adapters").absolute()) if options["warm_start"] else None
    with stoppable() as should_stop:
        attempt = VolumeReconstruction(ledger, slots, options["snapshot_every"], library, tell)
        Cohort(ledger, slots, options["attempts"], attempt, should_stop, tell).run()
    entries = ledger.entries()
    print(counts(entries))
    print(f"\nnext: ddip-ray cohort report {folder}")
    if any(entry.state == VolumeState.RUNNING for entry in entries):
        say("other drivers work on the rest; `cohort resume` takes over volumes that they lose")
        raise typer.Exit(EXIT_CAN_RESUME)
    if any(entry.state == VolumeState.FAILED for entry in entries):
        raise typer.Exit(EXIT_SOME_FAILED)


def tell(name: str, event: Event) -> None:
    """Print a message about the volume ``name``; steps are not shown."""
    from ddip_ray.engine.events import Message

    if isinstance(event, Message):
        say(f"{name}: {event.text}")


@app.command("status")
def status(
    folder: Folder,
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.2, help="Refresh the table at this interval until all volumes are done."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which volumes are waiting, running, done or failed."""
    from ddip_ray.tasks.cohort.ledger import Ledger

    if watch is not None and as_json:
        raise InputError("--watch and --json exclude each other", "Give one of them.")
    ledger = Ledger(folder)
    entries = ledger.entries()
    if as_json:
        print_json([asdict(entry) for entry in entries])
    elif watch is None:
        print(in_words(entries))
    else:
        follow(ledger, watch)


def follow(ledger: Ledger, seconds: float) -> None:
    """Show the table of volumes and refresh it in place every ``seconds`` until all are done."""
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
    """A table with a line for each volume, and how many are in each state."""
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
    """The number of volumes in each state, as a line."""
    from ddip_ray.tasks.cohort.ledger import VolumeState

    found = {state: sum(entry.state == state for entry in entries) for state in VolumeState}
    return f"{len(entries)} volumes: " + ", ".join(f"{n} {state}" for state, n in found.items() if n)


@app.command("report")
def report(
    folder: Folder,
    pictures: Annotated[bool, typer.Option(help="Also draw a picture of every volume that is done.")] = True,
) -> None:
    """Write a table of all volumes, report.csv, and pictures."""
    from ddip_ray.tasks.cohort.ledger import Ledger
    from ddip_ray.tasks.cohort.report import write_csv, write_pictures

    entries = Ledger(folder).entries()
    write_csv(entries, folder / "report.csv")
    print(counts(entries))
    print(folder / "report.csv")
    if pictures:
        drawn = write_pictures(entries, folder / "pictures", say)
        print(f"{len(drawn)} pictures in {folder / 'pictures'}")
