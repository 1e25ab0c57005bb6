"""Whole reconstructions: in this process, in several without Ray, and on one and two Ray workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from small_runs import LOCAL, config, volume

from ddip_ray.config.load import load_config
from ddip_ray.config.methods import METHOD_NAMES
from ddip_ray.engine.events import Event, StepEvent
from ddip_ray.engine.planning.layout import Layout
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io.stores.result import load_file, open_result

BOUNDS = {"tv": 1e-5}  # sums over slabs; all others: the bits


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("method", ["zero-filled", "tv", "dps", "dds", "scd", "d3ip", "d3ip-mbir"])
def test_mri_in_every_layout(small_mri: Path, prior: str, method: str) -> None:
    settings, bound = config(method, prior), BOUNDS.get(method, 0)
    here = volume(small_mri, "here", settings, **LOCAL)
    two = volume(small_mri, "two", settings, num_workers=2)
    assert np.iscomplexobj(here)
    assert np.abs(two - here).max() <= bound
    assert np.ptp(np.abs(here)) > 0


def test_the_callers_threads_are_as_before(small_scan: Path, prior: str) -> None:
    before = torch.get_num_threads()
    volume(small_scan, "here", config("fbp", prior), layout=Layout(executor="local", num_threads=before + 1))
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("method", [name for name in METHOD_NAMES if name != "zero-filled"])
def test_every_layout_gives_the_same_volume(small_scan: Path, prior: str, method: str) -> None:
    settings, bound = config(method, prior), BOUNDS.get(method, 0)
    here = volume(small_scan, "here", settings, **LOCAL)
    two = volume(small_scan, "two", settings, num_workers=2)
    assert np.abs(two - here).max() <= bound
    assert np.ptp(here) > 0


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("kind", "method", "num_workers"), [("scan", "d3ip-mbir", 2), ("mri", "tv", 2), ("scan", "dds", 1)]
)
def test_ray_gives_the_same_volume(
    small_scan: Path, small_mri: Path, prior: str, kind: str, method: str, num_workers: int
) -> None:
    """Of methods that between them send all that workers send to each other, and of a worker alone."""
    store, settings = {"scan": small_scan, "mri": small_mri}[kind], config(method, prior)
    here = volume(store, "here", settings, **LOCAL)
    there = volume(store, "there", settings, num_workers=num_workers, executor="ray")
    assert np.abs(there - here).max() <= BOUNDS.get(method, 0)
    assert np.ptp(np.abs(here)) > 0


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("method", ["dds", "d3ip"])
@pytest.mark.parametrize("kind", ["scan", "mri"])
def test_decisions_of_held_out_measurements_in_every_layout(
    small_scan: Path, small_mri: Path, prior: str, kind: str, method: str
) -> None:
    """On the noise, which is taken for an estimate, and on the strength of the adapter."""
    store = {"scan": small_scan, "mri": small_mri}[kind]
    root = zarr.open_group(store)
    metadata = dict(root.attrs["ddip_ray"])
    root.attrs["ddip_ray"] = {**metadata, "noise": {"kind": "measured", "std": 0.05}}
    settings = config(method, prior)
    adaptation = settings.adaptation.model_copy(update={"policy": "auto" if method == "d3ip" else "fixed"})
    settings = settings.model_copy(update={"adaptation": adaptation})
    here = volume(store, "here", settings, **LOCAL)
    two = volume(store, "two", settings, num_workers=2)
    np.testing.assert_array_equal(two, here)
    found = [open_result(str(store.parent / f"{name}.zarr")).provenance["notes"] for name in ("here", "two")]
    assert found[0] == found[1]
    assert found[0][0].startswith("noise ")
    assert len(found[0]) == (2 if method == "d3ip" else 1)


@pytest.mark.usefixtures("processes")
def test_result_says_how_it_was_made(small_scan: Path, prior: str) -> None:
    events: list[StepEvent] = []
    output = str(small_scan.parent / "out.zarr")
    settings = config("d3ip", prior)
    fixed = settings.model_copy(
        update={"adaptation": settings.adaptation.model_copy(update={"policy": "fixed"})}
    )
    run = reconstruct(str(small_scan), output, fixed, num_workers=2, on_event=events.append)
    provenance = open_result(output).provenance
    assert provenance["config"]["method"] == "d3ip"
    assert provenance["nfe"] == run.nfe == 4 + 4 + 2 * 4  # two passes, two twins
    assert provenance["adapt_nfe"] == run.adapt_nfe == 4 * 1 * 2  # one twin of two slices
    assert provenance["layout"]["slabs"] == [[0, 6], [6, 12]]
    assert [event.step for event in events] == list(range(1, 9))
    assert all(event.residual > 0 for event in events)
    assert [event.loss is None for event in events] == [True] * 4 + [False] * 4
    assert events[-1].seconds_left == 0
    assert run.adapter_path is not None
    adapter = load_file(output, "adapter.safetensors")
    assert Path(run.adapter_path).read_bytes() == adapter


def test_a_method_may_end_before_its_last_step(small_scan: Path) -> None:
    steps: list[StepEvent] = []
    settings = load_config(None, {"method": "tv", "tv": {"iterations": 50, "tol": 0.5}})
    output = str(small_scan.parent / "early.zarr")
    reconstruct(str(small_scan), output, settings, executor="local", on_event=steps.append)
    assert 1 <= len(steps) < 50
    assert steps[-1].num_steps == 50


def test_a_saved_adapter_is_used_again(small_scan: Path, prior: str) -> None:
    output = str(small_scan.parent / "first.zarr")
    run = reconstruct(str(small_scan), output, config("d3ip", prior), executor="local")
    frozen = config("d3ip", prior).model_dump()
    frozen |= {"adapter": run.adapter_path, "adaptation": {**frozen["adaptation"], "learning_rate": 1e-12}}
    again = volume(small_scan, "again", load_config(None, frozen), **LOCAL)
    plain = volume(small_scan, "plain", config("dds", prior), **LOCAL)
    assert np.abs(again - plain).max() > 1e-4


@pytest.mark.usefixtures("ray_cluster")
def test_bad_measurements_found_by_a_worker_leave_nothing(small_scan: Path, prior: str) -> None:
    import tensorstore

    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(small_scan / "measurements")}}
    ).result()
    array[9, 3, 5] = float("nan")
    before = sorted(small_scan.parent.iterdir())
    with pytest.raises(InputError, match=r"measurements: 1 of .* first at z 9, view 3, detector 5"):
        reconstruct(str(small_scan), str(small_scan.parent / "out.zarr"), config("dds", prior), num_workers=2)
    assert sorted(small_scan.parent.iterdir()) == before


def test_impossible_layouts(small_scan: Path, prior: str) -> None:
    settings, output = config("dds", prior), str(small_scan.parent / "out.zarr")
    with pytest.raises(InputError, match="13 workers for 12 slices"):
        reconstruct(str(small_scan), output, settings, num_workers=13)
    with pytest.raises(InputError, match="2 GPUs asked for, 0 in the machine"):
        reconstruct(str(small_scan), output, settings, num_gpus=2)
    with pytest.raises(InputError, match="`num_gpus=2` and `num_workers=3` disagree"):
        reconstruct(str(small_scan), output, settings, num_gpus=2, num_workers=3)
    with pytest.raises(InputError, match="local executor is one worker, 2 asked for"):
        reconstruct(str(small_scan), output, settings, num_workers=2, executor="local")
    assert not Path(output).exists()


def test_an_existing_output_is_kept(small_scan: Path, prior: str) -> None:
    output = small_scan.parent / "out.zarr"
    reconstruct(str(small_scan), str(output), config("fbp", prior), executor="local")
    shutil.copytree(output, small_scan.parent / "copy")
    with pytest.raises(InputError, match=r"out\.zarr"):
        reconstruct(str(small_scan), str(output), config("cg", prior), executor="local")
    for file in (small_scan.parent / "copy").rglob("*"):
        if file.is_file():
            assert (output / file.relative_to(small_scan.parent / "copy")).read_bytes() == file.read_bytes()
    reconstruct(str(small_scan), str(output), config("cg", prior), executor="local", overwrite=True)
    assert open_result(str(output)).provenance["method"] == "cg"


@pytest.mark.usefixtures("processes")
def test_an_earlier_result_is_where_another_starts(small_scan: Path, prior: str) -> None:
    first = volume(small_scan, "first", config("fbp", prior))
    values = {"method": "dds", "prior": prior, "start_from": str(small_scan.parent / "first.zarr")}
    values |= {"sampler": {"num_steps": 2, "start_t": 0, "cg_iterations": 1}}
    late = load_config(None, values)
    here = volume(small_scan, "here", late, **LOCAL)
    assert np.array_equal(volume(small_scan, "two", late, num_workers=2), here)
    # From t = 0 an untrained network and one CG iteration leave most of it as it was.
    assert np.abs(here - first).mean() < 0.3 * first.std()


def test_a_start_of_another_shape_is_refused(small_scan: Path, small_image: Path, prior: str) -> None:
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

    other = small_scan.parent / "other.zarr"
    simulate(str(small_image), str(other), Scan(num_views=8, window=(0.0, 1.0), slices="0:6"))
    reconstruct(str(other), str(small_scan.parent / "small.zarr"), config("fbp", prior))
    before = sorted(small_scan.parent.iterdir())
    values = {"method": "dds", "prior": prior, "start_from": str(small_scan.parent / "small.zarr")}
    with pytest.raises(InputError, match=r"start_from .*small\.zarr: shape \(6, 20, 24\).*\(12, 20, 24\)"):
        reconstruct(str(small_scan), str(small_scan.parent / "out.zarr"), load_config(None, values))
    assert sorted(small_scan.parent.iterdir()) == before


def test_measurements_that_are_gone_at_the_end_lose_nothing(small_scan: Path) -> None:
    """What they were, which the result records, was seen at the start."""
    gone = small_scan.parent / "gone"

    def on_event(event: Event) -> None:
        if not gone.exists():
            (small_scan / "measurements").rename(gone)

    settings = load_config(None, {"method": "cg"})
    output = str(small_scan.parent / "result.zarr")
    reconstruct(str(small_scan), output, settings, executor="local", on_event=on_event)
    assert gone.exists()
    assert len(open_result(output).provenance["measurements_digest"]) == 64
