"""Sparse-view CT in Python: scan a volume from 30 views, and reconstruct it by four methods."""

# %% [markdown]
# # Sparse-view CT
#
# A real MR volume serves as the object: it comes with nibabel, so nothing is downloaded. With a CT of your
# own, give its path and `window=(-1000, 1000)` to `load_image`. Everything here works the same in a
# notebook.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import torch

import ddip_ray as dr

small = os.environ.get("DDIP_RAY_EXAMPLES_SMALL") == "1"  # for a quick look, on coarse slices
image = dr.load_image(str(Path(nibabel.__file__).parent / "tests/data/example4d.nii.gz"), window=(0, 600))
image = image[11:13, ::4, ::4] if small else image[10:14]

# %% [markdown]
# ## Scan it
#
# `A` is the forward operator. It takes any number of slices, and `A.adjoint` is its exact transpose. The
# noise has a standard deviation of 1 % of the measurements' root mean square.

# %%
A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=10 if small else 30)
y = A.forward(image)
noise_std = 0.01 * float(y.square().mean().sqrt())
y = y + noise_std * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## Reconstruct it
#
# Filtered back-projection and total variation need no network. DDS and DiffusionMBIR use the shipped prior,
# which was trained on random ellipses and has never seen anatomy.

# %%
prior = dr.load_prior("default")
few = {"sampler": {"num_steps": 8}} if small else {}
volumes = {
    "FBP": dr.solve(A, y, method="fbp"),
    "TV": dr.solve(A, y, method="tv", noise_std=noise_std),
    "DDS": dr.solve(A, y, prior, method="dds", noise_std=noise_std, progress=True, **few),
    "DiffusionMBIR": dr.solve(A, y, prior, method="diffusionmbir", noise_std=noise_std, progress=True, **few),
}
middle = len(image) // 2
scores = {name: (dr.psnr(x, image), dr.ssim(x[middle], image[middle])) for name, x in volumes.items()}
print(scores)

# %%
figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), layout="constrained")
for axis, (name, x) in zip(axes, {"reference": image, **volumes}.items(), strict=True):
    axis.imshow(x[middle].numpy()[::-1], cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if name == "reference" else f"{name}\n{scores[name][0]:.1f} dB", fontsize=9)
    axis.axis("off")
figure.savefig("sparse_view_ct.png", dpi=110)

# %% [markdown]
# ## Watch it
#
# `iterate` gives the same steps one after the other, to look at the estimate, to record something, or to
# stop early.

# %%
residuals, errors = [], []
for step in dr.iterate(A, y, prior, method="dds", noise_std=noise_std, **few):
    residuals.append(step.residual)
    errors.append(dr.psnr(step.x0, image))

figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
axis.plot(errors)
axis.set(xlabel="step", ylabel="PSNR (dB)", title="DDS: the first steps change little")
figure.savefig("sparse_view_ct_steps.png", dpi=110)
