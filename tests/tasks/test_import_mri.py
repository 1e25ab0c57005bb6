"""k-space files of several kinds into a store: the same numbers, and clear words for what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io.kspace.raw import centred, cropped
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.schema import SAMPLING_MASK
from ddip_ray.tasks.acquire.coils import CoilChoice
from ddip_ray.tasks.acquire.import_mri import KSpaceChoice, import_mri
from ddip_ray.tasks.acquire.measured_kspace import Undersampling
from ddip_ray.tasks.judge.evaluate import evaluate

Kspace = np.ndarray[Any, np.dtype[np.complex64]]


@pytest.fixture
def kspace(small_mri: Path) -> Kspace:
    """(z, coil, ky, kx) of 12 slices and 3 coils, every second line or so."""
    return open_acquisition(small_mri).measurements(0, 12)


def imported(path: Path, tmp_path: Path, **choice: Any) -> Kspace:
    """What was stored, in the file's units, with the coils as they are."""
    output, as_it_is = str(tmp_path / "vol.zarr"), CoilChoice("low-resolution")
    store = import_mri(str(path), output, KSpaceChoice(**choice), coils=as_it_is, overwrite=True)
    y = store.measurements(0, store.num_slices)
    assert ((y != 0).any(axis=1) == store.read(SAMPLING_MASK, 0, store.num_slices)).all()
    return y


def test_npz_npy_and_matlab(kspace: Kspace, tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", kspace=kspace, other=np.ones(3))
    np.save(tmp_path / "k.npy", kspace)
    savemat(tmp_path / "k.mat", {"ksp": kspace[:, 0].transpose(1, 2, 0), "fov": 256.0})
    np.testing.assert_array_equal(imported(tmp_path / "k.npz", tmp_path), kspace)
    np.testing.assert_array_equal(imported(tmp_path / "k.npy", tmp_path, slices="2:5"), kspace[2:5])
    np.testing.assert_array_equal(imported(tmp_path / "k.mat", tmp_path, axes="ky,kx,z"), kspace[:, :1])
    np.save(tmp_path / "one.npy", kspace[4])
    np.testing.assert_array_equal(imported(tmp_path / "one.npy", tmp_path, axes="coil,ky,kx"), kspace[4:5])


def test_matlab_73_is_hdf5_with_reversed_axes_and_pairs(kspace: Kspace, tmp_path: Path) -> None:
    stored = kspace.transpose(2, 3, 1, 0).T  # MATLAB's ky, kx, coil, z
    pairs = np.empty(stored.shape, [("real", np.float32), ("imag", np.float32)])
    pairs["real"], pairs["imag"] = stored.real, stored.imag
    with h5py.File(tmp_path / "k.mat", "w", userblock_size=512) as file:
        file["ksp"] = pairs
    with open(tmp_path / "k.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    np.testing.assert_array_equal(imported(tmp_path / "k.mat", tmp_path, axes="ky,kx,coil,z"), kspace)


def test_a_third_axis_of_kspace_becomes_slices(kspace: Kspace, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", centred(np.fft.fft, kspace, 0).astype(np.complex64))
    y = imported(tmp_path / "k.npy", tmp_path, transform_z=True, slices="1:12")
    np.testing.assert_allclose(y[:, :, 10], kspace[1:, :, 10], atol=1e-5)


def fastmri(path: Path, kspace: Kspace, oversampled: int, with_header: bool = True) -> None:
    """As published: (slice, coil, readout, phase), the readout oversampled, an ISMRMRD header in XML."""
    rows, columns = kspace.shape[-2:]
    header = f"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
      <encodedSpace><matrixSize><x>{oversampled * rows}</x><y>{columns}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{2.0 * oversampled * rows}</x><y>{1.5 * columns}</y><z>3</z></fieldOfView_mm>
      </encodedSpace><reconSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{2.0 * rows}</x><y>{1.5 * columns}</y><z>3</z></fieldOfView_mm></reconSpace>
      </encoding></ismrmrdHeader>"""
    image = centred(np.fft.ifft, kspace, -2)
    padding = (oversampled - 1) * rows // 2
    wide = np.pad(image, [*[(0, 0)] * (image.ndim - 2), (padding, padding), (0, 0)])
    with h5py.File(path, "w") as file:
        file["kspace"] = centred(np.fft.fft, wide, -2).astype(np.complex64)
        if with_header:
            file["ismrmrd_header"] = header


def test_fastmri(tmp_path: Path) -> None:
    kspace = np.random.default_rng(0).standard_normal((3, 2, 20, 24, 2), dtype=np.float32).view(np.complex64)
    kspace = kspace[..., 0]
    fastmri(tmp_path / "file.h5", kspace, oversampled=2)
    np.testing.assert_allclose(imported(tmp_path / "file.h5", tmp_path), kspace, atol=1e-5)
    store = open_acquisition(tmp_path / "vol.zarr")
    assert store.metadata.acquisition.voxel_mm == (3.0, 2.0, 1.5)
    assert "readout oversampling removed: 20 of 40 rows" in store.metadata.source.history[0]
    fastmri(tmp_path / "single.h5", kspace[:, 0], oversampled=1, with_header=False)
    np.testing.assert_allclose(imported(tmp_path / "single.h5", tmp_path), kspace[:, :1], atol=1e-5)


def test_cropping_keeps_white_noise_as_large_as_it_is() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 3, 64, 32, 2), dtype=np.float32).view(np.complex64)
    assert np.abs(cropped(noise[..., 0], 32, 2)).std() == pytest.approx(np.abs(noise).std(), rel=0.05)


def test_fewer_samples_reconstruct_what_all_do(small_image: Path, tmp_path: Path) -> None:
    image = np.load(small_image)[:, None].astype(np.complex64)
    full = centred(np.fft.fft, centred(np.fft.fft, image, 2), 3).astype(np.complex64)
    np.save(tmp_path / "k.npy", full)
    stores = {}
    for name, fewer in (("all", None), ("half", Undersampling(2.0, "gaussian1d", 6))):
        stores[name] = str(tmp_path / f"{name}.zarr")
        choice = KSpaceChoice(scale=0.75)
        import_mri(str(tmp_path / "k.npy"), stores[name], choice, fewer)
        output = stores[name].replace(".zarr", "-cg.zarr")
        reconstruct(stores[name], output, load_config(None, {"method": "cg"}), executor="local")
    assert open_acquisition(stores["half"]).metadata.acquisition.sampling.acceleration == 2.0
    assert evaluate(str(tmp_path / "half-cg.zarr"), str(tmp_path / "all-cg.zarr")).psnr > 15


def write_real(path: Path) -> None:
    np.save(path, np.ones((2, 3, 8, 8), np.float32))


def write_three_axes(path: Path) -> None:
    np.save(path, np.ones((3, 8, 8), np.complex64))


def write_empty_slice(path: Path) -> None:
    y = np.ones((3, 1, 8, 8), np.complex64)
    y[1] = 0
    np.save(path, y)


def write_nan(path: Path) -> None:
    y = np.ones((12, 1, 8, 8), np.complex64)
    y[7, 0, 2, 3] = np.nan
    np.save(path, y)


def write_nothing(path: Path) -> None:
    np.save(path, np.zeros((2, 1, 8, 8), np.complex64))


def write_one(path: Path) -> None:
    np.save(path, np.ones((2, 1, 8, 8), np.complex64))


def write_layout(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images/volume"] = np.ones((4, 8, 8), np.float32)


def write_several(path: Path) -> None:
    np.savez(path, a=np.ones((1, 1, 8, 8), complex), b=np.ones((1, 1, 8, 8), complex))


def write_objects(path: Path) -> None:
    np.savez(path, k=np.ones((1, 1, 8, 8), complex), notes=np.array([{"coil": 1}], dtype=object))


def write_header(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["kspace"], file["ismrmrd_header"] = np.ones((1, 2, 8, 8), np.complex64), "<html>"


@pytest.mark.parametrize(
    ("name", "write", "choice", "message"),
    [
        ("k.npy", write_real, {}, "float32 numbers, expected complex ones"),
        ("k.npy", write_three_axes, {}, r"shape \(3, 8, 8\), expected four axes"),
        ("k.npy", write_three_axes, {"axes": "z,ky"}, r"axes z,ky for an array of shape \(3, 8, 8\)"),
        ("k.npy", write_empty_slice, {}, "slice 1 has no sample"),
        ("k.npy", write_nan, {"scale": 1.0}, "slice 7 has samples that are NaN or infinite"),
        ("k.npy", write_nan, {"slices": "7:8"}, "slice 7 has samples that are NaN or infinite"),
        ("k.npy", write_nothing, {}, "slice 0 has no sample"),
        ("k.npy", write_one, {"scale": -1.0}, "brightest value -1, expected a positive one"),
        ("k.npy", write_one, {"image_size": (8, 8)}, "`image_size` goes with a trajectory"),
        ("k.h5", write_layout, {}, "no complex array among images/volume"),
        ("k.h5", write_layout, {"key": "kspace"}, "no array 'kspace', there are images/volume"),
        ("k.h5", write_header, {}, "ismrmrd_header is not an ISMRMRD header"),
        ("k.npz", write_several, {}, r"several complex arrays \(a, b\)"),
        ("k.npz", write_objects, {}, "array 'notes' cannot be read .Object arrays"),
        ("k.mat", write_real, {}, "no such file"),
        (
            "k.dat",
            lambda path: path.write_bytes(b"x" * 99),
            {"axes": "ky,kx"},
            "`axes` is ky,kx, but the file says",
        ),
        ("k.raw", lambda path: path.write_bytes(b"x"), {}, "not a k-space format known here"),
        ("k.dat", lambda path: path.write_bytes(b"x" * 99), {}, "cannot be read as Siemens twix"),
    ],
)
def test_bad_input_writes_nothing(
    tmp_path: Path, name: str, write: Callable[[Path], Any], choice: dict[str, Any], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        import_mri(str(tmp_path / name), str(tmp_path / "vol.zarr"), KSpaceChoice(**choice))
    assert not (tmp_path / "vol.zarr").exists()


def test_impossible_undersampling(kspace: Kspace, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", kspace)
    with pytest.raises(InputError, match="undersampling: calibration 99, expected 0 to 20"):
        import_mri(
            str(tmp_path / "k.npy"), str(tmp_path / "v.zarr"), None, Undersampling(2.0, calibration=99)
        )
