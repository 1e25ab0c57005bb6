"""`ddip-ray compare STORE`."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ddip_ray.config.methods import METHOD_NAMES
from ddip_ray.errors import InputError

from ..interrupts import stoppable
from ..options import Address, AsJson, Circle, Gpus, Preset, Prior, Workers
from ..output import format_table, print_json, progress
from .reconstruct import watcher

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event

DEFAULT_METHODS = "fbp,tv,dds,d3ip"


def compare(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Acquisition to reconstruct.")],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help=f"Methods, separated by commas; there are {', '.join(METHOD_NAMES)}."
        ),
    ] = DEFAULT_METHODS,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Local folder for results, tables and picture. Default: STORE-compare.",
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of runs of each method with a prior. The first has the configuration's seed, the "
            "others those that follow it.",
        ),
    ] = 1,
    preset: Preset = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML file with settings for all methods.")
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME=FILE",
            help="Additional row NAME: the method and settings of a YAML file. Can be given several times.",
        ),
    ] = None,
    prior: Prior = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Result or acquisition whose image is the reference. Default: the reference in the "
            "acquisition.",
        ),
    ] = None,
    circle: Circle = False,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that were made with other settings.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Start interrupted runs from the beginning and delete their snapshots."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run several methods on one acquisition and score them.

    Results that are already in the folder are not computed again.
    """
    names = parse_methods(methods)
    from ddip_ray.config.load import given_settings, load_config
    from ddip_ray.engine.planning.layout import Layout
    from ddip_ray.io.paths import is_remote, local_path
    from ddip_ray.tasks.compare.compare import compare as make
    from ddip_ray.tasks.compare.files import ComparisonFiles
    from ddip_ray.tasks.compare.table import table

    flags = {"preset": preset and preset.value, "prior": prior}
    if "method" in given_settings(config, {}):
        raise InputError(
            f"configuration {config}: sets a method, but the methods are given by --methods",
            "Remove it, or give the file as a --variant",
        )
    configs = {name: load_config(config, {**flags, "method": name}) for name in names}
    for name, file in parse_variants(variants or []).items():
        configs[name] = load_config(file, flags)
    first_seed = configs[names[0]].seed
    folder = output or store.rstrip("/").removesuffix(".zarr") + "-compare"
    if is_remote(folder):
        raise InputError(
            f"{folder}: not a local folder, where tables and picture are written", "Give one with --output"
        )
    files = ComparisonFiles(local_path(folder), store)
    with progress("compare") as report, stoppable() as should_stop:

        def watch(run: str, event: Event) -> None:
            watcher(lambda done, total, words: report(done, total, f"{run}  {words}"))(event)

        runs = make(
            store,
            folder,
            configs,
            range(first_seed, first_seed + seeds),
            layout=Layout(workers, gpus),
            reference=reference,
            circle=circle,
            overwrite=overwrite,
            restart=restart,
            on_event=watch,
            should_stop=should_stop,
            on_run=files.write_tables,
        )
    picture = files.write_picture(runs, reference)
    if as_json:
        print_json({"runs": [asdict(run) for run in runs], "picture": str(picture)})
        return
    rows = table(runs)
    print(format_table(rows, right=range(1, len(rows[0]))))
    print(f"\n{files.markdown}\n{files.json}\n{picture}")


def parse_methods(text: str) -> list[str]:
    """The names of methods in ``text``, in the order given, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in METHOD_NAMES]:
        raise InputError(f"--methods: no method {', '.join(unknown)}", f"There are {', '.join(METHOD_NAMES)}")
    if not names:
        raise InputError("--methods: none given", f"There are {', '.join(METHOD_NAMES)}")
    return names


def parse_variants(texts: list[str]) -> dict[str, str]:
    """Variants NAME=FILE as a mapping; a name is part of a file name and of the table."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not file:
            raise InputError(f"--variant: found {text!r}, expected NAME=FILE", "For example fixed=fixed.yaml")
        if name in found or name in METHOD_NAMES:
            raise InputError(f"--variant {text}: {name} is a method or given twice", "Choose another name")
        found[name] = file
    return found
