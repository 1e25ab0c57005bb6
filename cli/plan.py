"""`ddip-ray plan STORE`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Address, AsJson, ConfigFile, Prior
from .output import format_fields, format_seconds, print_json
from .reconstruct import Method, Preset

if TYPE_CHECKING:
    from ddip_ray.engine.planning.forecast import Forecast
    from ddip_ray.engine.planning.layout import RunPlan


def plan(
    store: Annotated[str, typer.Argument(help="An acquisition.")],
    method: Annotated[Method | None, typer.Option(help="As of reconstruct.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="As of reconstruct.")] = None,
    config: ConfigFile = None,
    prior: Prior = None,
    gpus: Annotated[int | None, typer.Option(help="As of reconstruct.")] = None,
    workers: Annotated[int | None, typer.Option(help="As of reconstruct.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """What a reconstruction will need, before it starts; an error if it cannot fit."""
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
    """The same, for people."""
    from ddip_ray.units import format_bytes

    number = planned.num_workers
    kind = "GPU" if planned.device == "cuda" else "CPU worker"
    slabs = ", ".join(f"{slab.start} to {slab.stop - 1}" for slab in planned.slabs)
    calls = f"{found.nfe} network calls a slice" if found.nfe else f"{found.num_steps} steps at most"
    calls += f", {found.adapt_nfe} to adapt or decide" if found.adapt_nfe else ""
    sent = f"{format_bytes(found.sent_bytes)} a step"
    if found.adapter_bytes:
        sent += f", and {format_bytes(found.adapter_bytes)} at each update of the adapter"
    on = "the GPU" if planned.device == "cuda" else "the host"
    time = (
        "unknown: no such device here" if found.seconds is None else f"about {format_seconds(found.seconds)}"
    )
    memory = f"{format_bytes(found.device_bytes)} of {on} a worker"
    if found.memory is not None:
        memory += f", of {format_bytes(found.memory)}"
    return {
        "method": f"{method}: {calls}",
        "workers": f"{number} {kind}{'s' if number > 1 else ''}, slices {slabs}",
        "memory": memory,
        "messages": sent if number > 1 else "none",
        "time": time,
        "result": f"{format_bytes(found.result_bytes)}, a third more with coarser levels; snapshots on top",
    }
