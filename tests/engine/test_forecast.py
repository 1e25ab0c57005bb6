"""What a run will take, against what it took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import LOCAL, config

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.config.settings import RunConfig
from ddip_ray.engine.events import StepEvent
from ddip_ray.engine.planning import memory
from ddip_ray.engine.planning.forecast import forecast
from ddip_ray.engine.planning.layout import Layout, make_plan
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.load import load_prior
from ddip_ray.prior.memory import LiveBytes, call_bytes


def test_live_bytes() -> None:
    with LiveBytes() as live:
        x = torch.zeros(1000)
        y = x.view(10, 100) + 1
        assert live.now == live.peak == 8000
        del x
        assert live.now == 4000
        y = y[:2].clone()
        assert (live.now, live.peak) == (800, 8000)


def peak_of_a_call(prior: DiffusionPrior, x: torch.Tensor, *, with_gradient: bool) -> int:
    with LiveBytes() as live, torch.set_grad_enabled(with_gradient):
        x = x.clone().requires_grad_(with_gradient)
        x0_hat, _ = prior.denoise(x, 1)
        if with_gradient:
            torch.autograd.grad(x0_hat.abs().sum(), x)
    return live.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_bytes_of_a_call_are_found_without_making_it(
    prior: str, dtype: torch.dtype, with_gradient: bool
) -> None:
    loaded = load_prior(Path(prior))
    weights = sum(p.numel() * 4 for p in loaded.network.parameters())
    made = peak_of_a_call(loaded, torch.zeros(3, 30, 22, dtype=dtype), with_gradient=with_gradient)
    found = call_bytes(loaded, (30, 22), 3, is_complex=dtype.is_complex, with_gradient=with_gradient)
    assert found == pytest.approx(weights + made, rel=0.1)


@pytest.mark.parametrize("method", ["fbp", "tv", "dds", "d3ip", "d3ip-mbir"])
@pytest.mark.parametrize("kind", ["scan", "mri"])
def test_a_forecast_is_of_this_run(
    small_scan: Path, small_mri: Path, prior: str, kind: str, method: str
) -> None:
    store = {"scan": small_scan, "mri": small_mri}[kind]
    if (kind, method) == ("mri", "fbp"):
        method = "zero-filled"
    settings, acquisition = config(method, prior), open_acquisition(str(store))
    plan = make_plan(acquisition, settings, Layout(2))
    found = forecast(acquisition, settings, plan, 2**40)
    events = list[StepEvent]()
    run = reconstruct(
        str(store),
        str(store.parent / "out.zarr"),
        settings,
        on_event=events.append,
        **LOCAL,  # type: ignore[arg-type]
    )
    assert (found.num_slices, found.nfe, found.adapt_nfe) == (6, run.nfe, run.adapt_nfe)
    assert found.num_steps == events[0].num_steps
    assert found.seconds is not None
    assert found.seconds > 0
    voxels = np.prod([acquisition.num_slices, *acquisition.metadata.acquisition.image_shape])
    assert found.result_bytes == voxels * {"scan": 4, "mri": 8}[kind]
    couples = method in ("tv", "d3ip-mbir")
    plane = found.result_bytes / acquisition.num_slices
    assert (found.sent_bytes > plane) == couples
    assert (found.adapter_bytes > 0) == method.startswith("d3ip")


@pytest.mark.parametrize(("method", "adapters"), [("d3ip-meta", 0), ("ddip", 3), ("scd", 3)])
def test_adapters_of_slices_take_memory(small_scan: Path, prior: str, method: str, adapters: int) -> None:
    """Each as many bytes as the file of one holds, headers aside."""
    acquisition, network = open_acquisition(str(small_scan)), load_prior(Path(prior)).network
    shared, own = (config(name, prior) for name in ("dds", method))
    more = memory.slice_bytes(acquisition, own) - memory.slice_bytes(acquisition, shared)
    file = Adapter.create(network, LoraConfig(rank=2), seed=0).to_bytes("digest")
    assert more == adapters * (len(file) - 8 - int.from_bytes(file[:8], "little"))


def test_shadows_take_memory(small_scan: Path, prior: str) -> None:
    """Of twelve slices all are reconstructed once more at each of four strengths; of 320 every twentieth."""
    acquisition = open_acquisition(str(small_scan))
    fixed, auto = (
        RunConfig.model_validate({"method": "d3ip", "prior": prior, "adaptation": {"policy": policy}})
        for policy in ("fixed", "auto")
    )
    coupled = auto.model_copy(update={"method": "d3ip-mbir"})
    image = memory.image_bytes(acquisition)
    more = memory.slice_bytes(acquisition, auto) - memory.slice_bytes(acquisition, fixed)
    assert more == 4 * 7 * image + 2 * acquisition.slice_bytes
    assert memory.validated_share(auto, 320) == 1 / 20
    assert (memory.validated_share(coupled, 320), memory.validated_share(fixed, 320)) == (1, 0)


def test_what_cannot_fit_is_refused_by_how_much(small_scan: Path, prior: str) -> None:
    settings, acquisition = config("dds", prior), open_acquisition(str(small_scan))
    one = make_plan(acquisition, settings, Layout(1))
    needed = [memory.worker_bytes(acquisition, settings, n, "cpu") for n in (12, 4, 1)]
    assert needed == sorted(needed, reverse=True)
    with pytest.raises(InputError, match=r"12 slices on a worker need .* too much\. Use fewer"):
        forecast(acquisition, settings, one, needed[1])
    with pytest.raises(InputError, match="the fewest a worker can have, needs"):
        memory.fewest_workers(acquisition, settings, needed[2] - 1, "cpu")
    assert memory.fewest_workers(acquisition, settings, needed[1], "cpu") == 3
    assert memory.fewest_workers(acquisition, settings, needed[0], "cpu") == 1
    assert memory.fewest_workers(acquisition, settings, needed[2], "cpu") == 12
