"""The io package stays light: a command line's --help must not wait for readers it does not need."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import ddip_ray.io

HEAVY = (
    "torch",
    "ray",
    "zarr",
    "tensorstore",
    "dask",
    "nibabel",
    "h5py",
    "mrcfile",
    "tifffile",
    "pydicom",
    "scipy",
)


def test_importing_every_module_imports_no_reader():
    modules = [module.name for module in pkgutil.walk_packages(ddip_ray.io.__path__, "ddip_ray.io.")]
    assert len(modules) > 10
    script = f"import sys, {', '.join(modules)}; print([m for m in {HEAVY} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    assert output.stdout.strip() == b"[]"
