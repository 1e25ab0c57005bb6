"""`ddip-ray compare STORE`."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ddip_ray.errors import InputError

from .interrupts import stoppable
from .options import Address, AsJson, Prior
from .output import format_table, print_json, progress
from .reconstruct import Method, Preset, watcher

if TYPE_CHECKING:
    from ddip_ray.engine.events import Event

DEFAULT_METHODS = "fbp,tv,dds,d3ip"


def compare(
    store: Annotated[str, typer.Argument(help="An acquisition.")],
    methods: Annotated[str, typer.Option(help="Names, separated by commas.")] = DEFAULT_METHODS,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="Local folder of results, tables and picture. Default: STORE-compare."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each method with a prior, with seeds from the --config's up.")
    ] = 1,
    preset: Annotated[Preset | None, typer.Option(help="As of reconstruct.")] = None,
    config: Annotated[str | None, typer.Option(help="A YAML file of settings for all methods.")] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME=FILE",
            help="One more row, NAME: a method with the settings of a YAML file. Can be given several times.",
        ),
    ] = None,
    prior: Prior = None,
    reference: Annotated[
        str | None, typer.Option(help="A result or acquisition to score against. Default: the store's own.")
    ] = None,
    circle: Annotated[
        bool, typer.Option("--circle", help="Score the inscribed circle of slices only.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(help="As of reconstruct.")] = None,
    workers: Annotated[int | None, typer.Option(help="As of reconstruct.")] = None,
    address: Address = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that were made with other settings.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew what was cut off, whatever snapshots say.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run several methods on one acquisition and score them alike. What is done is not done again."""
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
            f"configuration {config}: method is for --methods to say", "Or give it as a --variant"
        )
    configs = {name: load_config(config, {**flags, "method": name}) for name in names}
    for name, file in parse_variants(variants or []).items():
        configs[name] = load_config(file, flags)
    first_seed = configs[names[0]].seed
    folder = output or store.rstrip("/").removesuffix(".zarr") + "-compare"
    if is_remote(folder):
        raise InputError(f"{folder}: tables and picture are written to a local folder", "Give one with -o")
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
    """Names in the order given, each once."""
    known = [method.value for method in Method]
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--methods: no method {', '.join(unknown)}", f"There are {', '.join(known)}")
    if not names:
        raise InputError("--methods: none given", f"There are {', '.join(known)}")
    return names


def parse_variants(texts: list[str]) -> dict[str, str]:
    """NAME=FILE; a name is part of a file's name and of the table."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not file:
            raise InputError(f"--variant: found {text!r}, expected NAME=FILE", "For example fixed=fixed.yaml")
        if name in found or name in list(Method):
            raise InputError(f"--variant {text}: {name} is a method, or given twice", "Give another name")
        found[name] = file
    return found
