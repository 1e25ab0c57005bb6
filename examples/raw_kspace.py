"""Raw k-space: from an array of a scanner's samples to a picture."""

# %% [markdown]
# # Raw k-space
#
# An `.npz` with a complex array `kspace` (z, coil, ky, kx) is a scan. There is no scanner in this script,
# so it makes the file first, from a real MR volume that comes with nibabel and six smooth coils. With data
# of your own, begin at the import.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np

import ddip_ray as dr
from ddip_ray.tasks.acquire.import_mri import import_mri
from ddip_ray.tasks.acquire.measured_kspace import Undersampling

small = os.environ.get("DDIP_RAY_EXAMPLES_SMALL") == "1"  # for a quick look, on coarse slices
folder = Path(tempfile.mkdtemp())
image = dr.load_image(str(Path(nibabel.__file__).parent / "tests/data/example4d.nii.gz"), window=(0, 600))
image = image[11:13, ::2, ::2].numpy() if small else image[11:13].numpy()

y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in image.shape[1:]), indexing="ij")
angles = np.arange(6) * np.pi / 3
coils = np.stack([np.exp(-((y - np.sin(a)) ** 2 + (x - np.cos(a)) ** 2) / 2 + 1j * a) for a in angles])
images = image[:, None] * np.exp(1j * y) * coils  # the slowly varying phase is part of any real scan
kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
noise = np.random.default_rng(0).standard_normal((2, *kspace.shape))
np.savez(folder / "scan.npz", kspace=(kspace + 0.01 * (noise[0] + 1j * noise[1])).astype(np.complex64))

# %% [markdown]
# ## Import it
#
# Twice: with all samples, as the reference, and with a third of the lines, to try what a faster scan would
# do. The noise level is estimated; coil sensitivities are, too, by ESPIRiT if sigpy is installed. In a
# shell this is `ddip-ray import-mri scan.npz -o third.zarr --acceleration 3`.

# %%
import_mri(str(folder / "scan.npz"), str(folder / "all.zarr"))
import_mri(
    str(folder / "scan.npz"),
    str(folder / "third.zarr"),
    undersampling=Undersampling(acceleration=3, pattern="uniform1d"),
)
scan = dr.open_acquisition(str(folder / "third.zarr"))
print(scan.shape, scan.noise_std)

# %% [markdown]
# ## Reconstruct it
#
# `reconstruct` works on stores, as `ddip-ray reconstruct third.zarr` does, and needs no more memory than a
# slab of slices. With `num_gpus=8` or `num_workers=4` it works on Ray.

# %%
dds = {"noise": {"level": "given"}}  # trust the estimate: the noise is white here
dds |= {"sampler": {"num_steps": 8}} if small else {}
runs = {"all lines": ("all.zarr", "zero-filled", {}), "zero-filled": ("third.zarr", "zero-filled", {})}
runs |= {"CG-SENSE": ("third.zarr", "cg", {}), "DDS": ("third.zarr", "dds", dds)}
volumes = {}
for name, (store, method, settings) in runs.items():
    output = str(folder / f"{name}.zarr".replace(" ", "-"))
    dr.reconstruct(str(folder / store), output, method=method, settings=settings, num_workers=1)
    volumes[name] = np.abs(dr.open_result(output).volume())

# %% [markdown]
# ## Look at it

# %%
reference = volumes["all lines"]
top = float(reference.max())
middle = len(reference) // 2
figure, axes = plt.subplots(1, 4, figsize=(9, 2.3), layout="constrained")
for axis, (name, volume) in zip(axes, volumes.items(), strict=True):
    score = "" if volume is reference else f"\n{dr.psnr(volume / top, reference / top):.1f} dB"
    axis.imshow(volume[middle][::-1], cmap="gray", vmin=0, vmax=top)
    axis.set_title(name + score, fontsize=9)
    axis.axis("off")
figure.savefig("raw_kspace.png", dpi=110)
