"""Run a method on tensors, in this process: all steps, or one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddip_ray.config.settings import RunConfig
from ddip_ray.operators.base import LinearOperator
from ddip_ray.prior.denoiser import Denoiser
from ddip_ray.prior.load import load_prior
from ddip_ray.solvers.build import build_method, build_with_prior
from ddip_ray.solvers.core.communicator import Alone
from ddip_ray.solvers.core.method import Method
from ddip_ray.solvers.core.problem import SlabProblem
from ddip_ray.solvers.core.slab import Slab


@dataclass(frozen=True)
class Step:
    """Where a reconstruction stands after a step.

    Attributes:
        index: number of the step, from 0.
        num_steps: the most steps there can be.
        x0: the estimate of the image so far, (z, y, x), in the units of the image that was measured.
        residual: ‖A x0 − y‖/‖y‖.
        loss: the adaptation's loss at this step; None where nothing was adapted.
        note: a finding to be kept with the result, or None.
    """

    index: int
    num_steps: int
    x0: Tensor
    residual: float
    loss: float | None = None
    note: str | None = None


def solve(
    A: LinearOperator,
    y: Tensor,
    prior: Denoiser | str | None = "default",
    *,
    method: str = "d3ip",
    noise_std: float = 0.0,
    initial_image: Tensor | None = None,
    progress: bool = False,
    **settings: Any,
) -> Tensor:
    """The reconstruction of ``y = A x + n``, (z, y, x), on the device of ``y``.

    Args:
        A: the forward operator.
        y: measurements, (z, *A.measurement_shape).
        prior: a loaded prior, the name or path of one, or an object with ``denoise(x_t, t)``, ``schedule``
            and ``image_range`` (`ddip_ray.prior.denoiser.Denoiser`); not used by classical methods.
        method: a name in `ddip_ray.methods`.
        noise_std: standard deviation of one entry of ``y`` (of the real and of the imaginary part where
            complex); 0 for noise-free data.
        initial_image: an earlier reconstruction to refine, (z, y, x); None starts from noise.
        progress: show a progress bar, in a terminal or a notebook.
        **settings: fields of `RunConfig`: ``seed=1``, ``sampler={"num_steps": 20}``, ``preset="paper"`` …

    Returns:
        The image, in the units of the image that was measured; priors expect it on about 0…1.

    Raises:
        ValueError: shapes that do not fit, or settings that do not exist.
        InputError: a prior that cannot be loaded or does not suit the images.
    """
    steps = iterate(A, y, prior, method=method, noise_std=noise_std, initial_image=initial_image, **settings)
    if not progress:
        return _last(steps).x0
    from tqdm.auto import tqdm

    with tqdm(desc=method, unit="step") as bar:
        for step in steps:
            bar.total = step.num_steps
            bar.set_postfix(residual=f"{step.residual:.4f}", refresh=False)
            bar.update()
    return step.x0


def iterate(
    A: LinearOperator,
    y: Tensor,
    prior: Denoiser | str | None = "default",
    *,
    method: str = "d3ip",
    noise_std: float = 0.0,
    initial_image: Tensor | None = None,
    **settings: Any,
) -> Iterator[Step]:
    """The steps of `solve`, one after the other, to watch a reconstruction or to end it early.

    Arguments are checked and the method is built at the first step. They are those of `solve`.
    """
    if initial_image is not None:
        settings = {"start_from": "initial_image", **settings}
    config = RunConfig.for_method(method, **settings)
    built = _build(config, _problem(A, y, noise_std, initial_image), prior)
    for index in range(built.num_steps):
        report = built.step(index)
        yield Step(index, built.num_steps, built.result(), report.residual, report.loss, report.note)
        if report.last:
            return


def _problem(A: LinearOperator, y: Tensor, noise_std: float, initial_image: Tensor | None) -> SlabProblem:
    """The checked problem of a volume that this process holds whole."""
    if not isinstance(y, Tensor) or y.dtype != A.dtype:
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"solve: `y` is {kind}, expected a tensor of {A.dtype} as `A` measures")
    if tuple(y.shape[1:]) != tuple(A.measurement_shape):
        wanted = ", ".join(["z", *map(str, A.measurement_shape)])
        raise ValueError(f"solve: `y` has shape {tuple(y.shape)}, expected ({wanted}) as `A` measures")
    if A.num_slices not in (None, len(y)):
        raise ValueError(f"solve: `y` has {len(y)} slices, `A` is made for {A.num_slices}")
    if len(y) == 0 or not bool(torch.isfinite(y).all()):
        raise ValueError("solve: `y` has no slice, or values that are NaN or infinite")
    if not noise_std >= 0:
        raise ValueError(f"solve: `noise_std` is {noise_std}, expected 0 or more")
    image_shape = (len(y), *A.image_shape)
    if initial_image is not None and tuple(initial_image.shape) != image_shape:
        found = tuple(initial_image.shape)
        raise ValueError(f"solve: `initial_image` has shape {found}, expected {image_shape}")
    return SlabProblem(
        A,
        y,
        Slab(0, len(y)),
        len(y),
        float(noise_std),
        initial_image=initial_image,
        central_operator=None if A.num_slices is None else A.of_slices([len(y) // 2]),
    )


def _build(config: RunConfig, problem: SlabProblem, prior: Denoiser | str | None) -> Method:
    """The configured method, with the prior loaded if it is only named."""
    if not config.uses_prior:
        return build_method(config, problem, Alone())
    if prior is None:
        raise ValueError(f"solve: method {config.method} needs a `prior`")
    if isinstance(prior, str):
        config = config.model_copy(update={"prior": prior})
        prior = load_prior(prior, problem.y.device, config.micro_batch)
    return build_with_prior(config, problem, Alone(), prior)


def _last(steps: Iterator[Step]) -> Step:
    """The last of ``steps``, of which there is at least one."""
    for step in steps:
        last = step
    return last
