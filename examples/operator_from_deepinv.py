"""A deepinv physics as the forward operator, and our projector as a deepinv physics."""

# %% [markdown]
# # An operator from deepinv
#
# [deepinv](https://deepinv.github.io) has many forward operators. Any of its linear physics can be given to
# `solve`. Here it is a Gaussian blur: no scanner, but the same y = A x + n.

# %%
import os
from pathlib import Path

import deepinv
import matplotlib.pyplot as plt
import nibabel
import torch

import ddip_ray as dr
from ddip_ray.interop.deepinv import DeepinvOperator, as_physics

small = os.environ.get("DDIP_RAY_EXAMPLES_SMALL") == "1"  # for a quick look, on coarse slices
image = dr.load_image(str(Path(nibabel.__file__).parent / "tests/data/example4d.nii.gz"), window=(0, 600))
image = image[11:12, ::4, ::4] if small else image[11:13]

# %% [markdown]
# ## deepinv's physics, our methods
#
# The adapter asks for the size of a slice. `A.adjoint` is then the physics' own adjoint.

# %%
kernel = deepinv.physics.blur.gaussian_blur(1.0 if small else 1.5)
A = DeepinvOperator(deepinv.physics.Blur(kernel, padding="circular"), tuple(image.shape[1:]))
noise_std = 0.02
y = A(image)
y = y + noise_std * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
sharp = dr.solve(
    A, y, "default", method="dds", noise_std=noise_std, sampler={"num_steps": 10 if small else 30}
)
print(f"blurred {dr.psnr(y[:, 0], image):.1f} dB, DDS {dr.psnr(sharp, image):.1f} dB")

# %%
figure, axes = plt.subplots(1, 3, figsize=(7, 2.3), layout="constrained")
for axis, title, shown in zip(
    axes, ("reference", "blurred, noisy", "DDS"), (image, y[:, 0], sharp), strict=True
):
    axis.imshow(shown[0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
figure.savefig("operator_from_deepinv.png", dpi=150)

# %% [markdown]
# ## Our projector, deepinv's methods
#
# The other way round: the parallel-beam projector as a `deepinv.physics.LinearPhysics`, solved by deepinv's
# pseudo-inverse.

# %%
P = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=30)
physics = as_physics(P)
x = physics.A_dagger(physics.A(image[:, None]))
print(f"least squares by deepinv: {dr.psnr(x[:, 0], image):.1f} dB")
