"""Reconstruct an acquisition with several methods and score them alike; the work can be resumed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import Event
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.provenance import contents, digest_of_adapter
from ddip_ray.engine.run import Resilience, reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.stores.acquisition import Acquisition, open_acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.load import load_prior
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.build import build_method, read_adapter
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.tasks.judge.evaluate import evaluate, measurement_residual
from ddip_ray.tasks.judge.volumes import read_image, read_reference, require_shape

PLANES = ("axial", "coronal", "sagittal")
_RESULT = re.compile(r"([\w.-]+)-seed\d+\.zarr")


@dataclass(frozen=True)
class Run:
    """The cost and the scores of one method with one seed; scores are None without a reference."""

    name: str
    seed: int
    result: str
    seconds: float
    nfe: int
    adapt_nfe: int
    peak_bytes: int
    num_workers: int
    residual: float | None
    psnr: float | None
    ssim: float | None
    planes: dict[str, tuple[float | None, float | None]]  # mean PSNR and SSIM over the slices of a plane


def compare(
    store: str,
    folder: str,
    configs: dict[str, RunConfig],
    seeds: Sequence[int],
    *,
    layout: Layout = Layout(),
    reference: str | None = None,
    circle: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_event: Callable[[str, Event], None] = lambda run, event: None,
    on_run: Callable[[list[Run]], None] = lambda runs: None,
) -> list[Run]:
    """Reconstruct an acquisition with several methods and seeds, and score the results.

    A result that exists already is not made again if it was made from the same acquisition with the same
    settings, as far as the method reads them. Results of this acquisition that other calls left in the folder
    follow in the table, scored alike, unless a row of the same name has other settings.

    Args:
        store: Path of the acquisition.
        folder: Local folder of the results, which is made if it is missing.
        configs: Configurations by the name of their row.
        seeds: Seeds of methods with a prior; other methods run once, with seed 0.
        layout: Workers or GPUs of each reconstruction.
        reference: Path of a reference, as for `evaluate`; None takes the acquisition's own, or gives no
            scores if it has none.
        circle: Whether to score only the inscribed circle of each slice.
        overwrite: Whether to replace results that were made with other settings.
        restart: Whether to begin anew instead of resuming from snapshots.
        should_stop: Whether to stop after the current step.
        on_event: Is told (name of the run, event) of each step and message.
        on_run: Is told all runs so far, after each run.

    Returns:
        The runs in the order of the table.

    Raises:
        InputError: no such store or reference, a method that cannot run on it, or an existing result that was
            made differently.
        Interrupted: ``should_stop`` ended the work; the same call resumes it.
    """
    acquisition = open_acquisition(store)
    planned = [
        (name, config.model_copy(update={"seed": seed}), paths.join(folder, f"{name}-seed{seed}.zarr"))
        for name, config in configs.items()
        for seed in (seeds if config.uses_prior else [0])
    ]
    # find all conflicts before any work
    if reference is not None:
        intensity = acquisition.metadata.intensity
        shape = acquisition.num_slices, *acquisition.metadata.acquisition.image_shape
        require_shape(read_reference(reference, intensity, intensity.unit), reference, shape)
    missing = [target for _, config, target in planned if not is_made(target, config, acquisition, overwrite)]
    names = {target: name for name, _, target in planned} | _left_there(folder, acquisition, configs)
    for config in {name: config for name, config, target in planned if target in missing}.values():
        # what a worker would find out when its turn comes
        build_method(config, load_problem(acquisition, Slab(0, 1), start_from=config.start_from), Alone())
    paths.make_folder(folder)
    scored = reference is not None or acquisition.has_reference
    runs: dict[str, Run] = {}

    def score(target: str) -> None:
        runs[target] = _run(
            names[target], target, acquisition, scored=scored, reference=reference, circle=circle
        )

    for target in names:
        if target not in missing:
            score(target)
    for name, config, target in planned:
        if target in missing:
            reconstruct(
                store,
                target,
                config,
                layout=layout,
                resilience=Resilience(restart=restart),
                overwrite=overwrite,
                should_stop=should_stop,
                on_event=partial(on_event, f"{name}-seed{config.seed}"),
            )
            score(target)
        on_run([runs[target] for target in names if target in runs])
    return [runs[target] for target in names]


def _left_there(folder: str, acquisition: Acquisition, configs: dict[str, RunConfig]) -> dict[str, str]:
    """The results of ``acquisition`` in ``folder``, each with the name of its row.

    All seeds of a row must have the settings of its configuration or, if it has none now, those of its first
    seed.
    """
    found = []
    for path in sorted(paths.local_path(folder).glob("*.zarr")):
        target = paths.join(folder, path.name)
        if match := _RESULT.fullmatch(path.name):
            try:
                made = open_result(target).provenance
            except InputError:  # no result in spite of its name
                continue
            if not _other_scan(made, acquisition):
                found.append((target, match[1], made))
    if not found:
        return {}
    now = contents(acquisition.digests(0, acquisition.num_slices), None, "")["measurements_digest"]
    kinds = {name: _kind(configs[name]) for name in {name for _, name, _ in found} & configs.keys()}
    names = {}
    for target, name, made in found:
        kind = _kind_made(made)
        if (
            kind is not None
            and made.get("measurements_digest") == now
            and kinds.setdefault(name, kind) == kind
        ):
            names[target] = name
    return names


def _kind(config: RunConfig) -> tuple[Any, ...]:
    """Settings without the seed, prior and adapter: runs of a row must have these in common."""
    return _but_seed(config), _prior_digest(config), digest_of_adapter(read_adapter(config))


def _kind_made(made: dict[str, Any]) -> tuple[Any, ...] | None:
    """The `_kind` of a result; None if another version made it."""
    try:
        config = RunConfig.model_validate(made.get("config", {}))
    except ValidationError:
        return None
    return _but_seed(config), made.get("prior_digest"), made.get("adapter_digest")


def _but_seed(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in config.relevant().items() if key != "seed"}


def _prior_digest(config: RunConfig) -> str | None:
    return load_prior(find_prior(config.prior)).digest if config.uses_prior else None


def is_made(target: str, config: RunConfig, acquisition: Acquisition, overwrite: bool = False) -> bool:
    """Whether the result at ``target`` was made from this acquisition with this configuration.

    Args:
        target: Path of a result, which may not exist.
        config: The configuration.
        acquisition: The acquisition.
        overwrite: Whether a result that was made differently counts as missing instead of raising an error.

    Raises:
        InputError: the result was made differently.
    """
    if not paths.exists(target):
        return False
    made = open_result(target).provenance
    # contents last, because comparing them takes reading the measurements
    different = _other_settings(made, config, acquisition) or _other_contents(made, config, acquisition)
    if different and not overwrite:
        raise InputError(
            f"{target}: already there, but made with other settings: {', '.join(different)}",
            "Give another folder, or replace it with `overwrite=True`",
        )
    return not different


def _other_settings(made: dict[str, Any], config: RunConfig, acquisition: Acquisition) -> list[str]:
    wanted = config.relevant()
    try:
        found = RunConfig.model_validate(made.get("config", {})).relevant()
    except ValidationError:  # made by another version
        return ["config"]
    return [key for key in wanted if found.get(key) != wanted[key]] + _other_scan(made, acquisition)


def _other_scan(made: dict[str, Any], acquisition: Acquisition) -> list[str]:
    recorded: Any = made.get("acquisition", {})
    scan = acquisition.metadata.model_dump(mode="json")
    return [f"acquisition ({key})" for key in scan if recorded.get(key) != scan[key]]


def _other_contents(made: dict[str, Any], config: RunConfig, acquisition: Acquisition) -> list[str]:
    """The inputs whose contents differ from those of the result, though their names are the same."""
    digests = acquisition.digests(0, acquisition.num_slices)
    now = contents(digests, _prior_digest(config), digest_of_adapter(read_adapter(config)))
    return [key.replace("_digest", " (contents)") for key in now if made.get(key) != now[key]]


def _run(
    name: str, target: str, acquisition: Acquisition, *, scored: bool, reference: str | None, circle: bool
) -> Run:
    result = open_result(target)
    made: Any = result.provenance
    psnr = ssim = residual = None
    planes: dict[str, tuple[float | None, float | None]] = {}
    if scored:
        scores = evaluate(target, reference, circle=circle, acquisition=acquisition)
        psnr, ssim, residual = scores.psnr, scores.ssim, scores.residual
        planes = {plane: (scores.planes[plane].psnr, scores.planes[plane].ssim) for plane in PLANES}
    else:
        residual = measurement_residual(acquisition, read_image(result, result.intensity))
    return Run(
        name=name,
        seed=made["config"]["seed"],
        result=result.path,
        seconds=made["seconds"]["total"],
        nfe=made["nfe"],
        adapt_nfe=made["adapt_nfe"],
        peak_bytes=made["peak_bytes_of_a_worker"],
        num_workers=len(made["layout"]["slabs"]),
        residual=residual,
        psnr=psnr,
        ssim=ssim,
        planes=planes,
    )
