"""What the solvers do differently where images are complex and every slice has coils of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_problem import build, solve
from torch import Tensor
from workers import on_workers

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.numerics.inner_product import product
from ddip_ray.numerics.proximal import project_to_ball, soft_threshold
from ddip_ray.operators import Sense
from ddip_ray.operators.mri.sensitivity_maps import calibration_size
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.problems.load import load_problem
from ddip_ray.solvers.adapting.rescan import check_rescannable, rescan
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.random import slab_noise
from ddip_ray.solvers.core.slab import Slab
from ddip_ray.solvers.validating.held_out import clear_gain, held_out, least

ADAPTATION = {
    "num_adapt_steps": 1,
    "num_adapt_slices": 2,
    "lora_rank": 2,
    "adapt_start_t": 999,
    "num_copies": 2,
}
FEW = {"sampler": {"num_steps": 4}, "adaptation": ADAPTATION}


@pytest.fixture
def scan(small_mri: Path) -> SlabProblem:
    return load_problem(open_acquisition(small_mri), Slab(0, 12))


def sense(problem: SlabProblem) -> Sense:
    assert isinstance(problem.operator, Sense)
    return problem.operator


def test_complex_noise_is_unit_normal_in_both_parts() -> None:
    noise = slab_noise(Slab(3, 6), (64, 64), 0, 1, is_complex=True)
    whole = slab_noise(Slab(0, 9), (64, 64), 0, 1, is_complex=True)
    assert torch.equal(noise, whole[3:6])
    for part in (noise.real, noise.imag):
        assert (part.std(dim=(1, 2)) - 1).abs().max() < 0.05
    assert (noise.real * noise.imag).mean().abs() < 0.05


def test_the_network_sees_real_and_imaginary_part_as_slices(prior: DiffusionPrior) -> None:
    x = slab_noise(Slab(0, 2), (8, 8), 0, 0, is_complex=True)
    x0_hat, eps_hat = prior.denoise(x, 300)
    for part in ("real", "imag"):
        x0, eps = prior.denoise(getattr(x, part), 300)
        torch.testing.assert_close(getattr(x0_hat, part), x0, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(getattr(eps_hat, part), eps, rtol=1e-4, atol=1e-5)


def test_proximal_operators_act_on_the_modulus() -> None:
    x = torch.tensor([3 + 4j, 0.3 + 0.4j, 0j])
    assert torch.allclose(soft_threshold(x, 1.0), torch.tensor([2.4 + 3.2j, 0j, 0j]))
    assert torch.allclose(project_to_ball(x, 1.0), torch.tensor([0.6 + 0.8j, 0.3 + 0.4j, 0j]))
    assert torch.equal(project_to_ball(torch.tensor([-3.0, 0.5]), 1.0), torch.tensor([-1.0, 0.5]))


def test_bits_of_a_slice_do_not_depend_on_the_others() -> None:
    """At sizes that leave a remainder in every vector loop."""
    x = slab_noise(Slab(0, 5), (7, 9), 0, 0, is_complex=True)
    for act in (
        lambda x: soft_threshold(x, 0.7),
        lambda x: project_to_ball(x, 0.7),
        lambda x: product(x, x.conj().flip(-1)),
    ):
        whole = act(x)
        for start, stop in ((0, 1), (1, 3), (4, 5)):
            assert torch.equal(act(x[start:stop]), whole[start:stop])


def test_rescans_are_smaller_noisy_and_as_undersampled(scan: SlabProblem) -> None:
    x0 = 0.5 * scan.operator.adjoint(scan.y)
    again = rescan(scan, x0, downsampling=2, num_copies=3, seed=1)
    small = sense(again.scan)
    assert again.scan.num_slices == 36
    assert again.target.shape == (36, 10, 12)
    assert again.target.is_complex()
    assert small.num_slices is None  # every worker scans its copies with the same coils
    taken = small.sampling_mask[0, 0] > 0
    clean = rescan(SlabProblem(**{**vars(scan), "noise_std": 0.0}), x0, 2, 3, 1)
    noise = (again.scan.y - clean.scan.y)[:, :, taken]
    assert float(torch.view_as_real(noise).std()) == pytest.approx(scan.noise_std, rel=0.1)
    assert (again.scan.y[:, :, ~taken] == 0).all()
    assert calibration_size(small.sampling_mask[0, 0]) >= 3


def test_nothing_left_of_the_slices(scan: SlabProblem) -> None:
    with pytest.raises(InputError, match="downsampling is 21, expected 1 to 20 for slices of 20 x 24 pixels"):
        check_rescannable(scan, 21)


def test_lines_are_held_out_but_not_the_centre(scan: SlabProblem) -> None:
    held = held_out(scan, 5, 0.2, seed=0)
    seen, mask = held.seen, held.mask
    assert len(seen.y) == 3
    for row, z in enumerate((0, 5, 10)):
        taken = sense(scan).sampling_mask[z, 0, :, 0] > 0
        dropped = mask[row, 0, :, 0] == 0
        assert (mask[row, 0] == mask[row, 0, :, :1]).all()
        assert dropped.any()
        assert not (dropped & ~taken).any()
        size = calibration_size(sense(scan).sampling_mask[z, 0])
        assert not dropped[10 - size // 2 :][:size].any()
        kept = (taken & ~dropped)[None, :, None]
        assert torch.equal(seen.y[row], scan.y[z] * kept)
        assert torch.equal(
            seen.operator.forward(seen.nothing() + 1)[row] * ~kept, torch.zeros_like(scan.y[z])
        )


def test_points_are_held_out(scan: SlabProblem) -> None:
    mask = (torch.rand(20, 24, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    mask[6:14, 8:16] = 1
    points = Sense(mask, sense(scan).sensitivity_maps)
    kept = held_out(SlabProblem(**{**vars(scan), "operator": points}), 5, 0.1, seed=0).mask
    dropped = kept[:, 0] == 0
    outside = mask.clone()
    size = calibration_size(mask)
    outside[10 - size // 2 :, :][:size, 12 - size // 2 :][:, :size] = 0
    assert (dropped.sum((1, 2)) == round(0.1 * float(outside.sum()))).all()
    assert not (dropped & (outside == 0)).any()
    assert (dropped[0] != dropped[1]).any()


def test_neighbours_are_not_judged_by_measurements(scan: SlabProblem, prior: DiffusionPrior) -> None:
    settings = {**FEW, "adaptation": {**ADAPTATION, "loss": "measurements"}}
    with pytest.raises(InputError, match="loss: measurements judges neighbours only where"):
        build("d3ip-mbir", scan, prior, **settings)


def test_auto_decides_for_mri(scan: SlabProblem, prior: DiffusionPrior) -> None:
    settings = {**FEW, "adaptation": {**ADAPTATION, "policy": "auto"}}
    method = build("d3ip", scan, prior, **settings)
    solve(method)
    assert method.validation is not None
    squared = method.validation.squared_misfits()
    misfits = {s: float(slices.sum()) ** 0.5 for s, slices in squared.items()}
    clear = [s for s in squared if s == 0 or clear_gain(squared[s], squared[0.0]) > 0]
    assert method.validation.strength == least({s: misfits[s] for s in clear})


@pytest.mark.parametrize("method", ["dds", "d3ip", "dps"])
def test_a_prior_of_two_channels_on_any_workers(
    small_mri: Path, two_channels: torch.nn.Module, method: str
) -> None:
    schedule = NoiseSchedule.linear()
    prior = DiffusionPrior(two_channels, schedule, "epsilon", image_range=(0.0, 1.0), num_channels=2)

    def work(slab: Slab, communicator: Any) -> Tensor:
        scan = load_problem(open_acquisition(small_mri), slab)
        return solve(build(method, scan, copy.deepcopy(prior), communicator, **FEW, dps={"num_steps": 3}))

    whole = work(Slab(0, 12), Alone())
    assert bool(torch.isfinite(torch.view_as_real(whole)).all())
    assert (on_workers([0, 1, 5, 12], work) - whole).abs().max() <= 1e-5
