"""From stored k-space to a problem: phase, coils, and data that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition, create_acquisition
from ddip_ray.io.stores.schema import SAMPLING_MASK, SENSITIVITY_MAPS
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.steps import correction
from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
from ddip_ray.tasks.acquire.simulate_mri import simulate_mri

FULL = KSpaceScan("full", 1.0, calibration=8, num_coils=3, brightest=1.0)


@pytest.fixture
def store(small_image: Path, tmp_path: Path) -> Acquisition:
    return simulate_mri(str(small_image), str(tmp_path / "full.zarr"), FULL)


def changed(store: Acquisition, path: Path, **arrays: np.ndarray) -> Acquisition:
    """A copy of ``store`` with other numbers."""
    maps = SENSITIVITY_MAPS in store.names and arrays.get(SENSITIVITY_MAPS) is not False
    with create_acquisition(path, store.metadata, 12, True, with_sensitivity_maps=maps) as writer:
        for name in writer.names:
            writer.write(name, 0, arrays.get(name, store.read(name, 0, 12)))
        return writer.commit()


def test_the_phase_goes_and_comes_back(store: Acquisition) -> None:
    problem = load_problem(store, Slab(0, 12))
    x = torch.from_numpy(store.reference(0, 12))
    real = problem.without_phase(x)
    inside = x.abs() > 0.5
    assert real.real[inside].mean() > 0.95 * x.abs()[inside].mean()
    assert real.imag[inside].abs().mean() < 0.15 * x.abs()[inside].mean()
    assert torch.allclose(problem.with_phase(real), x, atol=1e-6)
    assert torch.allclose(problem.operator.forward(real), problem.y, atol=1e-5)


def test_slices_do_not_know_their_slab(store: Acquisition) -> None:
    whole, part = load_problem(store, Slab(0, 12)), load_problem(store, Slab(5, 8))
    x = torch.from_numpy(store.reference(0, 12))
    assert torch.equal(whole.phase[5:8], part.phase)
    assert torch.equal(whole.operator.forward(x)[5:8], part.operator.forward(x[5:8]))
    assert torch.equal(whole.operator.adjoint(whole.y)[5:8], part.operator.adjoint(part.y))


@pytest.mark.parametrize("num_coils", [1, 3])
def test_nor_at_odd_sizes(tmp_path: Path, num_coils: int) -> None:
    image = np.random.default_rng(0).random((7, 13, 11), dtype=np.float32)
    np.save(tmp_path / "odd.npy", image)
    scan = KSpaceScan("gaussian1d", 1.5, calibration=5, num_coils=num_coils, brightest=1.0)
    store = simulate_mri(str(tmp_path / "odd.npy"), str(tmp_path / "odd.zarr"), scan)
    whole, part = load_problem(store, Slab(0, 7)), load_problem(store, Slab(3, 5))
    x = torch.from_numpy(store.reference(0, 7))
    assert torch.equal(whole.without_phase(x)[3:5], part.without_phase(x[3:5]))
    assert torch.equal(whole.with_phase(x)[3:5], part.with_phase(x[3:5]))
    assert torch.equal(whole.operator.forward(x)[3:5], part.operator.forward(x[3:5]))
    assert torch.equal(whole.operator.adjoint(whole.y)[3:5], part.operator.adjoint(part.y))


def test_maps_that_are_missing_are_estimated(store: Acquisition, tmp_path: Path) -> None:
    """Where the object is: the estimate cannot know what lies outside."""
    bare = changed(store, tmp_path / "bare.zarr", sensitivity_maps=False)
    assert SENSITIVITY_MAPS not in bare.names
    problem, known = load_problem(bare, Slab(4, 8)), load_problem(store, Slab(4, 8))
    x = torch.from_numpy(store.reference(4, 8))
    found = correction(problem.operator, problem.y, problem.nothing(), float("inf"), 20)
    best = correction(known.operator, known.y, known.nothing(), float("inf"), 20)
    assert torch.allclose(best.abs(), x.abs(), atol=1e-3)
    inside = x.abs() > 0.5
    assert (found.abs() - x.abs())[inside].abs().mean() < 0.05


def test_an_empty_mask(store: Acquisition, tmp_path: Path) -> None:
    mask = store.read(SAMPLING_MASK, 0, 12)
    mask[3] = False
    bad = changed(store, tmp_path / "bad.zarr", sampling_mask=mask)
    with pytest.raises(InputError, match=r"bad.zarr: sampling_mask of slice 3 has no sample"):
        load_problem(bad, Slab(2, 5))


def test_a_mask_without_centre(store: Acquisition, tmp_path: Path) -> None:
    mask = store.read(SAMPLING_MASK, 0, 12)
    mask[:, 10] = False
    bad = changed(store, tmp_path / "bad.zarr", sampling_mask=mask)
    with pytest.raises(InputError, match=r"slice 0 misses the centre of k-space \(row 10, column 12\)"):
        load_problem(bad, Slab(0, 2))


@pytest.mark.parametrize("with_maps", [True, False])
def test_coils_that_see_nothing(store: Acquisition, tmp_path: Path, with_maps: bool) -> None:
    y, maps = store.measurements(0, 12), store.read(SENSITIVITY_MAPS, 0, 12)
    y[7], maps[7] = 0, 0
    kinds = {"measurements": y, "sensitivity_maps": maps if with_maps else False}
    bad = changed(store, tmp_path / "bad.zarr", **kinds)
    with pytest.raises(InputError, match="coils of slice 7"):
        load_problem(bad, Slab(6, 9))


def test_one_coil_sees_all_alike(small_image: Path, tmp_path: Path) -> None:
    store = simulate_mri(str(small_image), str(tmp_path / "one.zarr"), replace(FULL, num_coils=1))
    problem = load_problem(store, Slab(0, 3))
    x = torch.from_numpy(store.reference(0, 3))
    assert torch.allclose(problem.with_phase(problem.operator.adjoint(problem.y)), x, atol=1e-5)
