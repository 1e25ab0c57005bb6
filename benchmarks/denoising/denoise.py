"""Denoising of real slices: priors against BM3D, the quick stand-in for reconstructions.

    pip install bm3d
    python benchmarks/denoising/denoise.py default [PRIOR ...]

White noise of known standard deviation is added to slices of an abdominal CT and of a T1 head, which no prior
has seen. Prints a markdown table and, with ``--write``, keeps it in benchmarks/denoising/results.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.denoiser import DiffusionPrior
from ddip_ray.prior.load import load_prior
from ddip_ray.prior.residual_unet import ResidualUNet

DATA = Path(__file__).parents[3] / "shared" / "data"
RESULTS = Path(__file__).with_name("results.md")
STDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)

Volume = NDArray[np.float32]
Denoiser = Callable[[Tensor, float], Tensor]  # noisy slices (z, y, x) in 0 … 1 and their noise's std


@dataclass(frozen=True)
class Cost:
    """What a call on one slice costs."""

    seconds: float  # of CPU time, the fastest of a few calls
    gflop: float | None = None
    parameters: int | None = None


def abdomen() -> Volume:
    """CT (z, y, x), −1000 … 1000 HU on 0 … 1."""
    with np.load(DATA / "ct_abdomen_totalseg" / "ct_abdomen_128.npz") as file:
        volume: Volume = ((file["volume"] + 1000) / 2000).clip(0, 1).astype(np.float32)
    return volume


def t1_head() -> Volume:
    """MRI (z, y, x), 0 to the 99.9th percentile on 0 … 1."""
    with np.load(DATA / "mri_t1_datalad" / "mri_t1_128.npz") as file:
        volume = file["volume"]
    scaled: Volume = (volume / np.percentile(volume, 99.9)).clip(0, 1).astype(np.float32)
    return scaled


VOLUMES: dict[str, Callable[[], Volume]] = {"abdomen CT": abdomen, "T1 head MR": t1_head}


def middle_slices(volume: Volume, num_slices: int) -> Tensor:
    """Slices evenly spread over the middle two fifths."""
    positions = np.linspace(0.3 * len(volume), 0.7 * len(volume), num_slices).astype(int)
    return torch.from_numpy(volume[positions])


def denoiser_of(prior: DiffusionPrior) -> Denoiser:
    """A prior as a plain denoiser: it is asked at the timestep whose noise is nearest."""
    low, high = prior.image_range
    alpha_bar = prior.schedule.alpha_bar
    stds = ((1 - alpha_bar) / alpha_bar).sqrt() / (high - low)

    def denoise(noisy: Tensor, std: float) -> Tensor:
        t = int((stds - std).abs().argmin())
        x_t = (low + (high - low) * noisy) * prior.schedule.at(t) ** 0.5
        with torch.inference_mode():
            clean = torch.cat([prior.denoise(x[None], t)[0] for x in x_t])
        return (clean - low) / (high - low)

    return denoise


def bm3d(noisy: Tensor, std: float) -> Tensor:
    """Dabov et al. 2007, "Image denoising by sparse 3-D transform-domain collaborative filtering"."""
    import bm3d as published

    return torch.from_numpy(np.stack([published.bm3d(image, std) for image in noisy.numpy()])).float()


def psnrs(denoise: Denoiser, clean: Tensor) -> list[float]:
    """In dB, of all slices together, at each of `STDS`, for one fixed noise."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    errors = [denoise(clean + std * noise, std).clamp(0, 1) - clean for std in STDS]
    return [float(-10 * torch.log10(error.double().square().mean())) for error in errors]


def fastest(denoise: Denoiser, image: Tensor, num_calls: int) -> float:
    """CPU seconds of a call on one slice (y, x)."""
    seconds = []
    for _ in range(num_calls):
        start = time.process_time()
        denoise(image[None], 0.1)
        seconds.append(time.process_time() - start)
    return min(seconds)


def cost_of(prior: DiffusionPrior, image: Tensor) -> Cost:
    """Time, floating point operations and size of a prior."""
    denoise = denoiser_of(prior)
    with FlopCounterMode(display=False) as counter:
        denoise(image[None], 0.1)
    parameters = sum(p.numel() for p in prior.network.parameters())
    return Cost(fastest(denoise, image, 5), counter.get_total_flops() / 1e9, parameters)


def load_priors(names: Sequence[str], *, with_bfloat16: bool) -> dict[str, DiffusionPrior]:
    """Priors by their names, those of our own network also with convolutions in bfloat16 if asked for."""
    priors = {}
    for name in names:
        title = Path(name).name
        priors[title] = load_prior(find_prior(name))
        if with_bfloat16 and isinstance(priors[title].network, ResidualUNet):
            lowered = load_prior(find_prior(name))
            lowered.network.precision = torch.bfloat16
            priors[f"{title}, bfloat16"] = lowered
    return priors


def table(
    scores: dict[str, dict[str, list[float]]], costs: dict[str, Cost], volumes: Sequence[str]
) -> list[str]:
    """Lines of Markdown: PSNR of each volume and method, then what a call costs."""
    lines = [
        f"| PSNR, dB | | {' | '.join(f'{std:g}' for std in STDS)} | mean |",
        "|---" * (len(STDS) + 3) + "|",
    ]
    for volume in volumes:
        for method, by_volume in scores.items():
            found = by_volume[volume]
            cells = [f"{value:.2f}" for value in (*found, statistics.mean(found))]
            lines.append(f"| {volume} | {method} | {' | '.join(cells)} |")
    lines += ["", "| a slice of 128² | CPU s | GFLOP | parameters |", "|---|---|---|---|"]
    for method, cost in costs.items():
        gflop = "" if cost.gflop is None else f"{cost.gflop:.1f}"
        parameters = "" if cost.parameters is None else f"{cost.parameters / 1e6:.1f} M"
        lines.append(f"| {method} | {cost.seconds:.3f} | {gflop} | {parameters} |")
    return lines


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Denoising PSNR of priors and of BM3D.")
    parser.add_argument("priors", nargs="*", default=["default"], help="shipped priors or directories")
    parser.add_argument("--slices", type=int, default=4, help="of each volume")
    parser.add_argument("--bfloat16", action="store_true", help="our own network also at lower precision")
    parser.add_argument("--without-bm3d", action="store_true", help="which takes most of the time")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {RESULTS.name}")
    options = parser.parse_args(words)
    torch.set_num_threads(1)

    slices = {name: middle_slices(read(), options.slices) for name, read in VOLUMES.items()}
    image = next(iter(slices.values()))[0]
    priors = load_priors(options.priors, with_bfloat16=options.bfloat16)
    methods = {name: denoiser_of(prior) for name, prior in priors.items()}
    costs = {name: cost_of(prior, image) for name, prior in priors.items()}
    if not options.without_bm3d:
        methods["BM3D"], costs["BM3D"] = bm3d, Cost(fastest(bm3d, image, 1))
    scores = {
        method: {name: psnrs(denoise, clean) for name, clean in slices.items()}
        for method, denoise in methods.items()
    }
    command = shlex.join(["python", "benchmarks/denoising/denoise.py", *words])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"
    text = "\n".join(
        [
            "# Denoising",
            "",
            f"`{command}`, {machine}. {options.slices} slices a volume, images on 0 … 1, one fixed noise;",
            "in the head of the table its standard deviation.",
            "",
            *table(scores, costs, list(slices)),
        ]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
