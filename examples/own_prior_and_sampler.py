"""A prior and a sampler of your own, each in a few lines."""

# %% [markdown]
# # A prior and a sampler of your own
#
# A real MR volume that comes with nibabel, scanned from 30 views with 1 % of noise.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import torch
from skimage.restoration import denoise_tv_chambolle

import ddip_ray as dr
from ddip_ray.prior.schedule import NoiseSchedule
from ddip_ray.solvers.core.steps import correction

small = os.environ.get("DDIP_RAY_EXAMPLES_SMALL") == "1"  # for a quick look, on coarse slices
image = dr.load_image(str(Path(nibabel.__file__).parent / "tests/data/example4d.nii.gz"), window=(0, 600))
image = image[11:12, ::4, ::4] if small else image[11:13]
A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=10 if small else 30)
y = A(image)
noise_std = 0.01 * float(y.square().mean().sqrt())
y = y + noise_std * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## A prior
#
# Any object with a noise schedule, a range of images and `denoise(x_t, t)` is a prior for the methods that do
# not adapt it. This one needs no network: it removes noise by total variation, slice by slice. A state is
# x_t = √ᾱ x0 + √(1−ᾱ) ε, so divided by √ᾱ it is an image with noise of known standard deviation.


# %%
class TVPrior:
    """Total-variation denoising as a prior."""

    schedule, image_range = NoiseSchedule.linear(), (0.0, 1.0)

    def denoise(self, x_t, t):
        """The denoised slices and the noise estimate at timestep ``t``."""
        signal, noise = self.schedule.at(t) ** 0.5, (1 - self.schedule.at(t)) ** 0.5
        slices = [denoise_tv_chambolle((x / signal).numpy(), weight=noise / signal) for x in x_t]
        x0_hat = torch.stack([torch.from_numpy(x) for x in slices]).float()
        return x0_hat, (x_t - signal * x0_hat) / noise


few = {"sampler": {"num_steps": 8}} if small else {}
by_own_prior = dr.solve(A, y, TVPrior(), method="dds", noise_std=noise_std, **few)

# %% [markdown]
# ## A sampler
#
# A prior denoises at every timestep, and `correction` is what data consistency adds to an image, by CG. That
# is enough for plug-and-play reconstruction: denoise, correct, repeat with less noise. For a method in
# the engine and on the command line, see the guide on adding a method.


# %%
def plug_and_play(A, y, prior, noise_std, *, first_sigma=0.2, last_sigma=0.01, num_steps=20):
    """Half-quadratic splitting with falling noise levels (DPIR, arXiv 2008.13751)."""
    low, high = prior.image_range
    sigmas = (1 / prior.schedule.alpha_bar - 1).sqrt() / (high - low)  # at each timestep, for images on 0…1
    x = A.direct_inverse(y)
    for k in range(num_steps):
        sigma = first_sigma * (last_sigma / first_sigma) ** (k / (num_steps - 1))
        t = int((sigmas - sigma).abs().argmin())
        x_t = prior.schedule.at(t) ** 0.5 * (low + (high - low) * x)
        x0_hat = (prior.denoise(x_t, t)[0] - low) / (high - low)
        x = x0_hat + correction(A, y, x0_hat, gamma=(sigma / noise_std) ** 2, num_iterations=20)
    return x


prior = dr.load_prior("default")
with torch.no_grad():
    by_own_sampler = plug_and_play(A, y, prior, noise_std, num_steps=4 if small else 20)

# %%
volumes = {"FBP": A.direct_inverse(y), "DDS, TV prior": by_own_prior, "own sampler": by_own_sampler}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.3), layout="constrained")
for axis, (name, x) in zip(axes, {"reference": image, **volumes}.items(), strict=True):
    axis.imshow(x[0].numpy()[::-1], cmap="gray", vmin=0, vmax=1)
    axis.set_title(name if x is image else f"{name}\n{dr.psnr(x, image):.1f} dB", fontsize=9)
    axis.axis("off")
figure.savefig("own_prior_and_sampler.png", dpi=110)
