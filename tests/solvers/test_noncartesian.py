"""MRI along trajectories, from the image to its reconstruction."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_problem import build, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition, create_acquisition, open_acquisition
from ddip_ray.io.stores.schema import SENSITIVITY_MAPS, TRAJECTORY, GaussianNoise
from ddip_ray.io.stores.summary import summarize
from ddip_ray.operators import NonCartesianSense
from ddip_ray.operators.mri import nufft
from ddip_ray.operators.mri.trajectory import fewer_readouts, trajectory
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.adapting.rescan import rescan
from ddip_ray.solvers.classical.direct import ZeroFilled
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.core.steps import pseudo_inverse
from ddip_ray.solvers.validating.held_out import held_out
from ddip_ray.tasks.acquire.kspace_scan import KSpaceScan
from ddip_ray.tasks.acquire.measurement_noise import NoiseRequest
from ddip_ray.tasks.acquire.simulate_mri import simulate_mri
from ddip_ray.tasks.describe import in_words

SPOKES = KSpaceScan("radial", 1.0, num_coils=3, brightest=1.0, off_grid=True)
METHODS = ["dds", "scd", "ddip", "dps", "ddnm", "diffpir", "diffusionmbir", "score-sde", "d3ip-meta"]
FEW: dict[str, Any] = {
    "sampler": {"num_steps": 4, "cg_iterations": 3, "final_cg_iterations": 3},
    "adaptation": {
        "num_adapt_steps": 1,
        "num_adapt_slices": 2,
        "lora_rank": 2,
        "adapt_start_t": 10,
        "num_copies": 2,
    },
}


@pytest.fixture
def store(small_image: Path, tmp_path: Path) -> Acquisition:
    """12 slices of 20 x 24 with 3 coils, spokes of their own for every slice."""
    scan = replace(SPOKES, mask_per_slice=True)
    return simulate_mri(str(small_image), str(tmp_path / "radial.zarr"), scan)


def changed(store: Acquisition, path: Path, **arrays: Any) -> Acquisition:
    """A copy of ``store`` with other numbers, or without maps."""
    maps = SENSITIVITY_MAPS in store.names and arrays.get(SENSITIVITY_MAPS) is not False
    with create_acquisition(path, store.metadata, 12, True, with_sensitivity_maps=maps) as writer:
        for name in writer.names:
            writer.write(name, 0, arrays.get(name, store.read(name, 0, 12)))
        return writer.commit()


@pytest.mark.parametrize("pattern", ["radial", "spiral"])
def test_samples_are_the_operator_of_the_reference(small_image: Path, tmp_path: Path, pattern: Any) -> None:
    scan = replace(SPOKES, pattern=pattern, acceleration=2.0, noise=NoiseRequest("gaussian", 0.05))
    store = simulate_mri(str(small_image), str(tmp_path / "vol.zarr"), scan)
    x, path, maps = (
        torch.from_numpy(store.read(n, 0, 12)) for n in ("reference", TRAJECTORY, SENSITIVITY_MAPS)
    )
    clean = NonCartesianSense(path, maps).forward(x)
    noise, missed = store.metadata.noise, torch.from_numpy(store.measurements(0, 12)) - clean
    assert isinstance(noise, GaussianNoise)
    assert noise.std == pytest.approx(0.05 * float(clean.abs().square().mean() / 2) ** 0.5, rel=1e-3)
    for own in missed:
        assert float(torch.view_as_real(own).std()) == pytest.approx(noise.std, rel=0.1)
    assert path.abs().max() <= 0.5


def test_spokes_are_as_many_as_lines_and_arms_as_far_apart() -> None:
    spokes = trajectory("radial", (64, 48), 4)
    assert spokes.shape == (16, 64, 2)
    assert (spokes[:, 32] == 0).all()
    radius = np.linalg.norm(trajectory("spiral", (64, 64), 2), axis=-1)
    assert radius.max() == pytest.approx(0.5)
    # Along the x axis the arms cross at two cycles over the field of view from each other.
    arms = trajectory("spiral", (64, 64), 2).reshape(-1, 2) * 64
    crossings = np.sort(arms[(np.abs(arms[:, 0]) < 0.5) & (arms[:, 1] > 4), 1])
    gaps = np.diff(crossings)
    assert np.median(gaps[gaps > 0.7]) == pytest.approx(2, rel=0.25)
    with pytest.raises(ValueError, match="pattern poisson, expected radial or spiral"):
        trajectory("poisson", (8, 8), 2)
    with pytest.raises(ValueError, match=r"acceleration 0\.5"):
        trajectory("radial", (8, 8), 0.5)


@pytest.mark.parametrize(("num_spokes", "count"), [(96, 12), (100, 20), (128, 16), (200, 15)])
def test_fewer_spokes_leave_no_wedge_out(num_spokes: int, count: int) -> None:
    """Of golden angles every eighth, fifth or thirteenth lie in heaps."""
    path = trajectory("radial", (num_spokes, num_spokes), 1)
    chosen = fewer_readouts(path, count)
    assert len(set(chosen.tolist())) == count
    directions = np.sort(np.arctan2(path[chosen, 0, 0], path[chosen, 0, 1]) % np.pi)
    gaps = np.diff(directions, append=directions[0] + np.pi)
    assert gaps.max() < 2 * np.pi / count  # the even distance is half of it


def test_evenly_spaced_spokes_stay_even() -> None:
    angles = np.arange(64)[:, None] * np.pi / 64
    along = np.linspace(-0.5, 0.5, 65)
    path = np.stack([along * np.sin(angles), along * np.cos(angles)], axis=-1).astype(np.float32)
    np.testing.assert_array_equal(fewer_readouts(path, 16), np.arange(0, 64, 4))


def test_the_phase_goes_and_comes_back(store: Acquisition) -> None:
    problem, x = load_problem(store, Slab(0, 12)), torch.from_numpy(store.reference(0, 12))
    real, inside = problem.without_phase(x), x.abs() > 0.5
    assert real.real[inside].mean() > 0.95 * x.abs()[inside].mean()
    assert real.imag[inside].abs().mean() < 0.15 * x.abs()[inside].mean()
    assert torch.allclose(problem.with_phase(real), x, atol=1e-6)
    torch.testing.assert_close(problem.operator.forward(real), problem.y, atol=3e-4, rtol=0)


def test_slices_do_not_know_their_slab(store: Acquisition) -> None:
    whole, part = load_problem(store, Slab(0, 12)), load_problem(store, Slab(5, 8))
    x = torch.from_numpy(store.reference(0, 12))
    assert torch.equal(whole.phase[5:8], part.phase)
    assert torch.equal(whole.operator.forward(x)[5:8], part.operator.forward(x[5:8]))
    assert torch.equal(whole.operator.adjoint(whole.y)[5:8], part.operator.adjoint(part.y))
    assert whole.operator_norm() == part.operator_norm() > 1


def test_maps_that_are_missing_are_estimated(store: Acquisition, tmp_path: Path) -> None:
    bare = changed(store, tmp_path / "bare.zarr", sensitivity_maps=False)
    x = torch.from_numpy(store.reference(4, 8))
    inside = x.abs() > 0.5
    for acquisition, tolerance in ((store, 0.03), (bare, 0.06)):  # spokes leave the corners of k-space out
        problem = load_problem(acquisition, Slab(4, 8))
        found = pseudo_inverse(problem.operator, problem.y, 20)
        assert (found.abs() - x.abs())[inside].abs().mean() < tolerance


def test_gridding_is_what_samples_alone_show(store: Acquisition, prior: DiffusionPrior) -> None:
    problem = load_problem(store, Slab(4, 8))
    x = torch.from_numpy(store.reference(4, 8)).abs()
    found = solve(ZeroFilled(problem, Alone())).abs()
    assert float((found - x).norm() / x.norm()) < 0.2


@pytest.mark.parametrize("method", ["d3ip", "d3ip-mbir"])
def test_same_volume_on_any_workers(prior: DiffusionPrior, store: Acquisition, method: str) -> None:
    """With held-out readouts of the slices 0, 6 of twelve; noise that is searched for."""
    adaptation = {**FEW["adaptation"], "policy": "auto"}
    settings = {**FEW, "adaptation": adaptation, "validation": {"num_slices": 2, "strengths": [0.0, 1.0]}}

    def work(slab: Slab, communicator: Any) -> Tensor:
        scan = replace(load_problem(open_acquisition(store.path), slab), noise_std=0.01)
        return solve(build(method, scan, copy.deepcopy(prior), communicator, **settings))

    assert (on_workers([0, 1, 5, 12], work) - work(Slab(0, 12), Alone())).abs().max() <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(prior: DiffusionPrior, store: Acquisition, method: str) -> None:
    scan = replace(load_problem(store, Slab(0, 2)), num_slices=2)
    few = {"dps": {"num_steps": 3}, "predictor_corrector": {"num_steps": 3}}
    loss = "measurements" if method == "scd" else "rescan"
    adaptation = {"adaptation": {**FEW["adaptation"], "loss": loss}}
    x = solve(build(method, scan, prior, **{**FEW, **few, **adaptation}))
    assert x.shape == (2, 20, 24)
    assert bool(torch.isfinite(torch.view_as_real(x)).all())


def test_readouts_are_held_out(store: Acquisition) -> None:
    held = held_out(load_problem(store, Slab(0, 12)), 5, 0.2, seed=0)
    num_readouts = held.y.shape[2]
    assert held.mask.shape == (3, 1, num_readouts, 1)
    assert ((held.mask == 0).sum((1, 2, 3)) == round(0.2 * num_readouts)).all()
    assert not held.seen.y[held.mask.expand_as(held.y) == 0].any()


def test_one_readout_leaves_none_to_hold_out(store: Acquisition) -> None:
    problem = load_problem(store, Slab(0, 1))
    operator = NonCartesianSense(torch.zeros(1, 8, 2), torch.ones(3, 20, 24, dtype=torch.complex64))
    single = replace(problem, operator=operator, y=problem.y[:, :, :1, :8])
    with pytest.raises(InputError, match="k-space in one readout"):
        held_out(single, 1, 0.1, seed=0)


@pytest.mark.parametrize("pattern", ["radial", "spiral"])
@pytest.mark.parametrize("k", [2, 3])
def test_a_smaller_scan_has_as_many_samples_a_pixel(pattern: str, k: int) -> None:
    path = torch.from_numpy(trajectory(pattern, (96, 96), 3))
    maps = torch.ones(1, 96, 96, dtype=torch.complex64)
    small = NonCartesianSense(path, maps).coarse_scan(k).operator
    assert isinstance(small, NonCartesianSense)
    per_pixel = float(small.sampling_mask.sum()) / (96 // k) ** 2
    assert per_pixel == pytest.approx(path[..., 0].numel() / 96**2, rel=0.15)
    if pattern == "radial":
        assert len(small.trajectory[0]) == pytest.approx(len(path) / k, rel=0.1)
    else:  # whose arms spend fewer samples within reach
        assert len(small.trajectory[0]) > 1.5 * len(path) / k
    taken = small.sampling_mask[0, 0] > 0
    assert small.trajectory[0][taken].abs().max() <= 0.5
    image = torch.zeros(1, 96, 96, dtype=torch.complex64)
    image[0, 48:60, 36:48] = 1  # whole pixels of either scan
    large = NonCartesianSense(small.trajectory[0] / k, maps).forward(image)[0, 0]
    pooled = torch.nn.functional.avg_pool2d(image.real, k).to(image.dtype)
    found, low = small.forward(pooled)[0, 0], taken & (small.trajectory[0].norm(dim=-1) < 0.1)
    # Of k² times fewer pixels, which lie a little to one side.
    torch.testing.assert_close(k * found[low].abs(), large[low].abs(), rtol=0.05, atol=1e-3)


def test_rescans_are_noisy_where_there_are_samples(store: Acquisition) -> None:
    scan = replace(load_problem(store, Slab(0, 12)), noise_std=0.05)
    x0 = torch.from_numpy(store.reference(0, 12))
    noisy, clean = (rescan(replace(scan, noise_std=std), x0, 2, 2, 1).scan for std in (0.05, 0.0))
    assert isinstance(noisy.operator, NonCartesianSense)
    taken = noisy.operator.sampling_mask[0, 0] > 0
    added = noisy.y - clean.y
    assert float(torch.view_as_real(added[:, :, taken]).std()) == pytest.approx(0.05, rel=0.1)
    assert not added[:, :, ~taken].any()


def test_a_trajectory_without_centre(store: Acquisition, tmp_path: Path) -> None:
    path = store.read(TRAJECTORY, 0, 12)
    path[3] = 0.4
    bad = changed(store, tmp_path / "bad.zarr", trajectory=path)
    message = r"bad.zarr: trajectory of slice 3 fills 0 x 0 samples at the centre"
    with pytest.raises(InputError, match=message):
        load_problem(bad, Slab(2, 5))


def test_coils_that_see_nothing(store: Acquisition, tmp_path: Path) -> None:
    y = store.measurements(0, 12)
    y[7] = 0
    bad = changed(store, tmp_path / "bad.zarr", measurements=y, sensitivity_maps=False)
    with pytest.raises(InputError, match="coils of slice 7"):
        load_problem(bad, Slab(6, 9))


def test_without_finufft(
    store: Acquisition, small_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nufft.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"radial.zarr: non-Cartesian k-space needs finufft: pip install"):
        load_problem(store, Slab(0, 1))
    with pytest.raises(InputError, match="`off_grid`: non-Cartesian k-space needs finufft"):
        simulate_mri(str(small_image), str(tmp_path / "other.zarr"), SPOKES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calibration": 8}, "`calibration` is for k-space on the grid"),
        (
            {"acceleration": 7.0},
            r"`acceleration` 7 fills \d x \d samples at the centre of k-space",
        ),
    ],
)
def test_trajectories_that_cannot_be(
    small_image: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        simulate_mri(str(small_image), str(tmp_path / "vol.zarr"), replace(SPOKES, **change))


def test_lines_stay_on_the_grid(small_image: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`off_grid`: pattern uniform1d, expected radial or spiral"):
        simulate_mri(str(small_image), str(tmp_path / "vol.zarr"), replace(SPOKES, pattern="uniform1d"))


def test_described_in_words(store: Acquisition) -> None:
    words = in_words(summarize(store.path))
    assert words["store"] == "acquisition, noncartesian_mri"
    assert words["measurements"] == "12 x 3 x 20 x 24 (z, coil, readout, sample)"
    assert words["sampling"] == "radial, nominal acceleration 1"
