"""Every sampler on a Gaussian prior, whose posterior is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gaussian import GaussianPrior, scan
from small_problem import build, solve
from torch import Tensor

NUM_SAMPLES = 300  # the error of a mean of so many is 0.06 standard deviations
TRAJECTORY = {
    "num_steps": 100,
    "step_power": 2,
    "noise_free_below_t": -1,
    "data_trust": 1,
    "cg_iterations": 60,
    "nonnegative": False,
    "eta": 0.85,
}
QUIET = {**TRAJECTORY, "noise_free_below_t": 1000}

MORE = {**TRAJECTORY, "num_steps": 400}

# Method, settings, error of the mean (as a share of the prior mean's, which is 4.6 posterior standard
# deviations away), the range of the total variance over the posterior's, and the error of the covariance
# (as a share of its norm). What is not 0, 1 and 0 is the method's own approximation, measured: none of them
# is exact for a finite number of steps and correlated noise.
SAMPLERS: list[tuple[str, dict[str, Any], float, tuple[float, float], float]] = [
    ("dds", {"sampler": TRAJECTORY}, 0.07, (0.75, 1.0), 0.2),
    ("dds", {"sampler": QUIET}, 0.07, (0.0, 1e-6), 1.001),  # a point estimate: every sample is the same
    ("ddnm", {"sampler": TRAJECTORY}, 0.07, (0.55, 0.85), 0.3),
    ("diffpir", {"sampler": TRAJECTORY}, 0.1, (0.95, 1.3), 0.6),
    ("diffpir", {"sampler": MORE}, 0.06, (0.8, 1.0), 0.2),
    ("diffusionmbir", {"sampler": TRAJECTORY, "mbir": {"weight": 1e-9}}, 0.07, (0.7, 1.0), 0.2),
    ("diffusionmbir", {"sampler": TRAJECTORY, "mbir": {"admm": {"lam": 1e-9}}}, 0.07, (0.7, 1.0), 0.2),
    ("dps", {"dps": {"num_steps": 1000, "scale": 0.2}}, 0.086, (0.5, 0.8), 0.45),
    ("dps", {"dps": {}}, 0.16, (0.65, 0.9), 0.85),
    ("score-sde", {"sampler": TRAJECTORY, "predictor_corrector": {"num_steps": 200}}, 0.17, (1.2, 2.2), 1.8),
]


def distance(a: Tensor, b: Tensor, covariance: Tensor) -> float:
    """Root mean square of a − b, in standard deviations."""
    return float(((a - b).square() / covariance.diagonal()).mean().sqrt())


def covariance_error(samples: Tensor, covariance: Tensor) -> float:
    """‖C − covariance‖/‖covariance‖ for the C that ``samples: (n, pixel)`` are drawn with.

    By the product of two halves' errors: what chance puts into one is not in the other.
    """
    one, other = (torch.cov(half.T) - covariance for half in samples.chunk(2))
    return float((one * other).sum().clamp_min(0).sqrt() / covariance.norm())


@pytest.mark.parametrize(
    ("method", "settings", "mean_error", "variances", "spread_error"),
    SAMPLERS,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_posterior_of_a_gaussian_prior(
    method: str,
    settings: dict[str, Any],
    mean_error: float,
    variances: tuple[float, float],
    spread_error: float,
) -> None:
    prior = GaussianPrior()
    problem, mean, covariance = scan(prior, NUM_SAMPLES, noise_std=0.05)
    samples = solve(build(method, problem, prior, **settings)).flatten(1).double()  # type: ignore[arg-type]
    from_prior = distance(prior.mean, mean, covariance)
    assert from_prior > 2.5
    assert distance(samples.mean(0), mean, covariance) < mean_error * from_prior
    low, high = variances
    assert low <= float(torch.cov(samples.T).trace() / covariance.trace()) <= high
    assert covariance_error(samples, covariance) <= spread_error


def test_without_data_ddim_draws_from_the_prior() -> None:
    """η = 0 carries noise to the prior exactly, in the limit of many steps."""
    prior = GaussianPrior()
    problem, _, _ = scan(prior, 2000, noise_std=1e6)
    trajectory = {**TRAJECTORY, "num_steps": 200, "eta": 0.0, "cg_iterations": 1}
    samples = solve(build("dds", problem, prior, sampler=trajectory)).flatten(1).double()  # type: ignore[arg-type]
    error = torch.cov(samples.T) - prior.covariance
    assert float((samples.mean(0) - prior.mean).abs().max()) < 0.06
    assert float(error.norm() / prior.covariance.norm()) < 0.1


def test_without_data_predictor_and_corrector_draw_from_the_prior() -> None:
    prior = GaussianPrior()
    problem, _, _ = scan(prior, 1000, noise_std=1e6)
    settings = {"sampler": {**TRAJECTORY, "cg_iterations": 1}, "predictor_corrector": {"num_steps": 200}}
    samples = solve(build("score-sde", problem, prior, **settings)).flatten(1).double()  # type: ignore[arg-type]
    error = torch.cov(samples.T) - prior.covariance
    assert float((samples.mean(0) - prior.mean).abs().max()) < 0.06
    assert float(error.norm() / prior.covariance.norm()) < 0.15


def test_the_corrector_asks_at_the_level_that_the_predictor_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, asked = GaussianPrior(), []
    denoise = prior.denoise

    def asking(x_t: Tensor, t: int, network: object = None) -> tuple[Tensor, Tensor]:
        asked.append(t)
        return denoise(x_t, t, network)

    monkeypatch.setattr(prior, "denoise", asking)
    problem, _, _ = scan(prior, 2, noise_std=0.05)
    settings = {"num_steps": 3, "corrector_steps": 2}
    method = build("score-sde", problem, prior, predictor_corrector=settings)  # type: ignore[arg-type]
    solve(method)
    first, second, last = method.timesteps
    assert asked == [first, second, second, second, last, last, last]
    assert method.nfe == len(asked)


def test_clean_data_are_met_and_the_rest_is_the_posterior() -> None:
    prior = GaussianPrior()
    problem, mean, covariance = scan(prior, NUM_SAMPLES, noise_std=0.0)
    samples = solve(build("ddnm", problem, prior, sampler=TRAJECTORY))  # type: ignore[arg-type]
    misfit = problem.operator.forward(samples) - problem.y
    assert float(misfit.abs().max()) < 1e-3
    x = samples.flatten(1).double()
    assert distance(x.mean(0), mean, covariance) < 0.07 * distance(prior.mean, mean, covariance)
    assert float(torch.cov(x.T).trace() / covariance.trace()) == pytest.approx(1, abs=0.12)
    assert covariance_error(x, covariance) < 0.25
