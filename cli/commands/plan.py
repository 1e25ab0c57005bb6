"""`ddip-ray plan STORE`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import Address, AsJson, ConfigFile, Gpus, Method, Preset, Prior, Workers
from ..output import format_fields, format_seconds, print_json

if TYPE_CHECKING:
    from ddip_ray.engine.planning.forecast import Forecast
    from ddip_ray.engine.planning.layout import RunPlan


def plan(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Acquisition to reconstruct.")],
    method: Method = None,
    preset: Preset = None,
    config: ConfigFile = None,
    prior: Prior = None,
    gpus: Gpus = None,
    workers: Workers = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the memory and time of a reconstruction.

    The exit code is 2 if it cannot fit into the memory of the workers.
    """
    from ddip_ray.config.load import load_config
    from ddip_ray.engine.planning.forecast import forecast
    from ddip_ray.engine.planning.layout import Layout, make_plan
    from ddip_ray.engine.ray import resources
    from ddip_ray.io.stores.acquisition import open_acquisition

    flags = {"method": method and method.value, "preset": preset and preset.value, "prior": prior}
    settings, acquisition = load_config(config, flags), open_acquisition(store)
    planned = make_plan(acquisition, settings, Layout(workers, gpus), may_lack_gpus=True)
    memory: int | None = None
    if planned.device == "cpu":
        memory = resources.total_host_bytes() // planned.num_workers
    elif resources.num_gpus():
        memory = resources.gpu_bytes()
    found = forecast(acquisition, settings, planned, memory)
    if as_json:
        slabs = [[slab.start, slab.stop] for slab in planned.slabs]
        print_json({"method": settings.method, "device": planned.device, "slabs": slabs, **asdict(found)})
        return
    print(format_fields(in_words(planned, found, settings.method)))
    print(f"\nnext: ddip-ray reconstruct {store}")


def in_words(planned: RunPlan, found: Forecast, method: str) -> dict[str, str]:
    """The estimate as lines for a person, by topic."""
    from ddip_ray.units import format_bytes

    number = planned.num_workers
    kind = "GPU" if planned.device == "cuda" else "CPU worker"
    slabs = ", ".join(f"{slab.start} to {slab.stop - 1}" for slab in planned.slabs)
    calls = f"{found.nfe} network calls per slice" if found.nfe else f"at most {found.num_steps} steps"
    calls += f", {found.adapt_nfe} for adaptation and validation" if found.adapt_nfe else ""
    sent = f"{format_bytes(found.sent_bytes)} per step"
    if found.adapter_bytes:
        sent += f", and {format_bytes(found.adapter_bytes)} for each update of the adapter"
    on = "GPU memory" if planned.device == "cuda" else "host memory"
    time = (
        "unknown: this machine has no such device"
        if found.seconds is None
        else f"about {format_seconds(found.seconds)}"
    )
    memory = f"{format_bytes(found.device_bytes)} of {on} per worker"
    if found.memory is not None:
        memory += f"; {format_bytes(found.memory)} available"
    return {
        "method": f"{method}: {calls}",
        "workers": f"{number} {kind}{'s' if number > 1 else ''}, slices {slabs}",
        "memory": memory,
        "messages": sent if number > 1 else "none",
        "time": time,
        "result": f"{format_bytes(found.result_bytes)}, plus a third for the coarser levels, plus snapshots",
    }
