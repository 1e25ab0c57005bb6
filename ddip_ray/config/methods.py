"""The table of methods: one row each. Adding a method is a row here and a file that its ``builder`` names.

Importable without pydantic, torch or ray, because the command line reads the names from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddip_ray.config import published
from ddip_ray.config.names import PresetName

Values = Mapping[str, Any]


@dataclass(frozen=True)
class MethodRow:
    """A method, as the rest of the package sees it.

    Attributes:
        title: the method in one line.
        paper: authors, title, venue and year, arXiv number or DOI; "" for textbook methods.
        builder: "module:function" of ``(config, problem, communicator, prior) -> Method``.
        sections: sections of `RunConfig` that the method reads.
        default: settings that differ from the fields' defaults, by section.
        paper_settings: settings of the method's paper for CT, by section (``preset: paper``).
        uses_prior: False for classical methods.
        adapts: whether the network's weights are adapted to the scan.
        adapter_is_shared: whether one adapter serves the whole volume, not one each slice.
        couples_slices: whether a slice's result depends on its neighbours.
        chooses_noise_level: whether an estimated noise level is refined with held-out measurements.
        takes_initial_image: whether ``start_from`` is possible.
        differentiates_sampling: whether each step backpropagates through the network, for all slices.
        held_images: arrays of an image slice alive at a worker's peak (benchmarks/bench_memory.py).
        held_measurements: arrays of a slice's measurements alive at that peak.
    """

    title: str
    paper: str
    builder: str
    sections: tuple[str, ...] = ()
    default: Values = field(default_factory=dict)
    paper_settings: Values = field(default_factory=dict)
    uses_prior: bool = True
    adapts: bool = False
    adapter_is_shared: bool = True
    couples_slices: bool = False
    chooses_noise_level: bool = True
    takes_initial_image: bool = True
    differentiates_sampling: bool = False
    held_images: int = 18
    held_measurements: int = 14

    @property
    def adapter_arrays_per_slice(self) -> int:
        """Arrays of an adapter's size for each slice: its own factors and Adam's two moments."""
        return 3 if self.adapts and not self.adapter_is_shared else 0


_D3IP_PAPER = (
    "H. Chung and J. C. Ye, Deep Diffusion Image Prior for Efficient OOD Adaptation in 3D Inverse Problems, "
    "ECCV 2024, arXiv 2407.10641"
)
_MBIR_PAPER = (
    "H. Chung, D. Ryu, M. T. McCann, M. L. Klasky and J. C. Ye, Solving 3D Inverse Problems using "
    "Pre-trained 2D Diffusion Models, CVPR 2023, arXiv 2211.10655"
)

METHODS: dict[str, MethodRow] = {
    "d3ip": MethodRow(
        title="One low-rank adapter for the volume, trained on rescans of a first reconstruction",
        paper=_D3IP_PAPER,
        builder="ddip_ray.solvers.adapting.d3ip:build",
        sections=("sampler", "adaptation", "validation", "scd"),
        default={"adaptation": {"policy": "auto"}},
        paper_settings=published.D3IP,
        adapts=True,
    ),
    "d3ip-meta": MethodRow(
        title="D3IP (meta): the volume's adapter by Reptile, refined briefly on each slice",
        paper=f"{_D3IP_PAPER}; A. Nichol, J. Achiam and J. Schulman, On First-Order Meta-Learning "
        "Algorithms, 2018, arXiv 1803.02999",
        builder="ddip_ray.solvers.adapting.reptile:build",
        sections=("sampler", "adaptation", "meta", "scd"),
        default={"adaptation": {"num_adapt_steps": 2}},  # outer steps, each of ``inner_steps`` inner ones
        paper_settings=published.D3IP_META,
        adapts=True,
    ),
    "d3ip-mbir": MethodRow(
        title="D3IP (mbir): D3IP with total variation along z in the data consistency",
        paper=_D3IP_PAPER,
        builder="ddip_ray.solvers.adapting.d3ip:build_mbir",
        sections=("sampler", "adaptation", "validation", "mbir", "scd"),
        paper_settings=published.D3IP_MBIR,
        adapts=True,
        couples_slices=True,
    ),
    "ddip": MethodRow(
        title="An adapter for every slice, trained on rescans of that slice",
        paper=_D3IP_PAPER,
        builder="ddip_ray.solvers.adapting.ddip:build",
        sections=("sampler", "adaptation", "scd"),
        paper_settings=published.DDIP,
        adapts=True,
        adapter_is_shared=False,
    ),
    "scd": MethodRow(
        title="An adapter for every slice, trained on the slice's measurements",
        paper="R. Barbano et al., Steerable Conditional Diffusion for Out-of-Distribution Adaptation in "
        "Medical Image Reconstruction, IEEE Transactions on Medical Imaging 2025, arXiv 2308.14409",
        builder="ddip_ray.solvers.adapting.scd:build",
        sections=("sampler", "adaptation", "scd"),
        # Few and small steps: at ten times the rate, or four steps a timestep, it ended below DDS.
        default={
            "adaptation": {
                "loss": "measurements",
                "lora_rank": 4,
                "learning_rate": 1e-5,
                "num_adapt_steps": 1,
                "adapt_start_t": 999,
                "loss_cg_iterations": 8,
            }
        },
        paper_settings=published.SCD,
        adapts=True,
        adapter_is_shared=False,
    ),
    "dds": MethodRow(
        title="Decomposed diffusion sampling: data consistency by conjugate gradients",
        paper="H. Chung, S. Lee and J. C. Ye, Decomposed Diffusion Sampler for Accelerating Large-Scale "
        "Inverse Problems, ICLR 2024, arXiv 2303.05754",
        builder="ddip_ray.solvers.sampling.dds:build",
        sections=("sampler",),
        paper_settings=published.DDS,
    ),
    "ddnm": MethodRow(
        title="Denoising diffusion null-space model: data consistency by the pseudo-inverse",
        paper="Y. Wang, J. Yu and J. Zhang, Zero-Shot Image Restoration Using Denoising Diffusion "
        "Null-Space Model, ICLR 2023, arXiv 2212.00490",
        builder="ddip_ray.solvers.sampling.ddnm:build",
        sections=("sampler",),
        paper_settings=published.DDNM,
    ),
    "diffpir": MethodRow(
        title="Plug-and-play image restoration on a diffusion trajectory",
        paper="Y. Zhu et al., Denoising Diffusion Models for Plug-and-Play Image Restoration, "
        "CVPR Workshops 2023, arXiv 2305.08995",
        builder="ddip_ray.solvers.sampling.diffpir:build",
        sections=("sampler", "diffpir"),
        paper_settings=published.DIFFPIR,
    ),
    "dps": MethodRow(
        title="Ancestral sampling, pulled down the gradient of the measurement misfit",
        paper="H. Chung, J. Kim, M. T. McCann, M. L. Klasky and J. C. Ye, Diffusion Posterior Sampling for "
        "General Noisy Inverse Problems, ICLR 2023, arXiv 2209.14687",
        builder="ddip_ray.solvers.sampling.dps:build",
        sections=("dps",),
        paper_settings=published.DPS,
        differentiates_sampling=True,
        chooses_noise_level=False,
        takes_initial_image=False,
    ),
    "diffusionmbir": MethodRow(
        title="DDS with total variation along z, its dual kept from timestep to timestep",
        paper=_MBIR_PAPER,
        builder="ddip_ray.solvers.sampling.mbir:build",
        sections=("sampler", "mbir", "predictor_corrector"),
        paper_settings=published.DIFFUSION_MBIR,
        couples_slices=True,
    ),
    "score-sde": MethodRow(
        title="Predictor-corrector sampling of the VE-SDE with data consistency",
        paper="Y. Song, L. Shen, L. Xing and S. Ermon, Solving Inverse Problems in Medical Imaging with "
        "Score-Based Generative Models, ICLR 2022, arXiv 2111.08005",
        builder="ddip_ray.solvers.sampling.predictor_corrector:build",
        sections=("sampler", "predictor_corrector"),
        # A thousand data consistencies, each of a noisy state: few CG iterations are enough for each.
        default={"sampler": {"final_cg_iterations": 20}},
        paper_settings=published.SCORE_SDE,
        chooses_noise_level=False,
        takes_initial_image=False,
    ),
    "tv": MethodRow(
        title="3D total variation by ADMM",
        paper="L. I. Rudin, S. Osher and E. Fatemi, Nonlinear Total Variation Based Noise Removal "
        "Algorithms, Physica D 1992, doi:10.1016/0167-2789(92)90242-F",
        builder="ddip_ray.solvers.classical.total_variation:build",
        sections=("tv",),
        uses_prior=False,
        couples_slices=True,
        takes_initial_image=False,
        held_images=43,
        held_measurements=3,
    ),
    "cg": MethodRow(
        title="Least squares by conjugate gradients, regularised by stopping early",
        paper="M. R. Hestenes and E. Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, "
        "Journal of Research of the National Bureau of Standards 1952, doi:10.6028/jres.049.044",
        builder="ddip_ray.solvers.classical.direct:build_cg",
        sections=("cg",),
        uses_prior=False,
        takes_initial_image=False,
        held_images=7,
        held_measurements=5,
    ),
    "fbp": MethodRow(
        title="Filtered back-projection, for CT",
        paper="",
        builder="ddip_ray.solvers.classical.direct:build_fbp",
        sections=("fbp",),
        uses_prior=False,
        takes_initial_image=False,
        held_images=1,
        held_measurements=7,
    ),
    "zero-filled": MethodRow(
        title="Zero filling, or density-compensated gridding, for MRI",
        paper="",
        builder="ddip_ray.solvers.classical.direct:build_zero_filled",
        uses_prior=False,
        takes_initial_image=False,
        held_images=1,
        held_measurements=7,
    ),
}

METHOD_NAMES = tuple(METHODS)
ADAPTING = tuple(name for name, row in METHODS.items() if row.adapts)


def preset_values(preset: PresetName, method: str) -> Values:
    """The settings that ``preset`` gives ``method``; the fields' defaults hold for all others."""
    row = METHODS[method]
    return row.paper_settings if preset == "paper" else row.default


def overlaid(below: Values, above: Values) -> dict[str, Any]:
    """``above`` over ``below``, section by section."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = overlaid(under, value) if both else value  # type: ignore[arg-type]
    return merged
