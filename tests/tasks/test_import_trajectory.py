"""Measured k-space with its trajectory: the store that comes of it, and its reconstruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from ddip_ray.config.load import load_config
from ddip_ray.engine.run import reconstruct
from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import Acquisition
from ddip_ray.io.stores.result import open_result
from ddip_ray.io.stores.schema import SENSITIVITY_MAPS, TRAJECTORY, MeasuredNoise, NonCartesianMRI
from ddip_ray.operators import NonCartesianSense
from ddip_ray.operators.mri.trajectory import fewer_readouts, trajectory
from ddip_ray.tasks.acquire.coils import CoilChoice
from ddip_ray.tasks.acquire.import_mri import KSpaceChoice, import_mri
from ddip_ray.tasks.acquire.measured_kspace import Undersampling
from ddip_ray.tasks.acquire.synthetic_coils import coil_maps

NY, NX, NOISE = 40, 48, 0.03
SIZE = KSpaceChoice(image_size=(NY, NX))


def image() -> Any:
    """Two slices with an edge that says which way is up."""
    y, x = np.meshgrid(np.linspace(-1, 1, NY), np.linspace(-1, 1, NX), indexing="ij")
    body = 80.0 * (y**2 + 1.3 * x**2 < 0.6) + 40.0 * ((y - 0.3) ** 2 + (x + 0.2) ** 2 < 0.04)
    return np.stack([body, 0.7 * body]).astype(np.complex64)


@pytest.fixture(scope="module")
def scan() -> tuple[Any, Any]:
    """k-space (z, coil, readout, sample) of four coils, and one trajectory for all slices."""
    path = trajectory("radial", (NY, NX), 1)
    maps = coil_maps(4, range(2), (2, NY, NX), 0)
    A = NonCartesianSense(torch.from_numpy(path), torch.from_numpy(maps))
    rng = np.random.default_rng(0)
    y = A.forward(torch.from_numpy(image())).numpy()
    noise = rng.standard_normal((*y.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return y + np.float32(80 * NOISE) * noise, path


def reconstruction_error(store: Acquisition, folder: Path) -> float:
    """Of CG, in the file's own units; turned or shifted images would be off by all they are."""
    config = load_config(None, {"method": "cg"})
    reconstruct(str(store.path), str(folder / "x.zarr"), config, executor="local")
    found = np.abs(open_result(folder / "x.zarr").read(0, store.num_slices))
    truth = np.abs(image()[: len(found)])
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def geometry(store: Acquisition) -> NonCartesianMRI:
    assert isinstance(store.metadata.acquisition, NonCartesianMRI)
    return store.metadata.acquisition


def save(folder: Path, y: Any, path: Any) -> str:
    np.savez(folder / "scan.npz", kspace=y, trajectory=path)
    return str(folder / "scan.npz")


def test_from_a_file_of_arrays_to_an_image(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    store = import_mri(save(tmp_path, y, path), str(tmp_path / "vol.zarr"), SIZE)
    assert geometry(store).measurement_shape == (4, len(path), path.shape[1])
    assert geometry(store).image_shape == (NY, NX)
    np.testing.assert_array_equal(store.measurements(0, 2), y)
    np.testing.assert_array_equal(store.read(TRAJECTORY, 0, 2), np.stack([path, path]))
    assert SENSITIVITY_MAPS in store.names
    assert store.metadata.intensity.scale == pytest.approx(120, rel=0.15)  # the brightest value
    noise = store.metadata.noise
    assert isinstance(noise, MeasuredNoise)
    assert 0.9 < noise.std / (80 * NOISE) < 1.5  # the outer samples see something of the object
    assert reconstruction_error(store, tmp_path) < 0.15


def test_half_of_the_readouts(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    store = import_mri(save(tmp_path, y, path), str(tmp_path / "vol.zarr"), SIZE, Undersampling(2.0))
    kept = fewer_readouts(path, len(path) // 2)
    np.testing.assert_array_equal(store.measurements(0, 2), y[:, :, kept])
    np.testing.assert_array_equal(store.read(TRAJECTORY, 1, 2)[0], path[kept])
    assert geometry(store).sampling.acceleration == 2


def test_slices_keep_their_path_and_coils_are_compressed(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    own = np.stack([path, -path])
    choice = KSpaceChoice(image_size=(NY, NX), slices="1:2")
    store = import_mri(
        save(tmp_path, y, own), str(tmp_path / "vol.zarr"), choice, coils=CoilChoice(compress_coils=2)
    )
    np.testing.assert_array_equal(store.read(TRAJECTORY, 0, 1)[0], -path)
    assert store.measurements(0, 1).shape == (1, 2, *path.shape[:2])


def test_hdf5_with_a_fastmri_name_keeps_its_path(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"], file["trajectory"], file["ismrmrd_header"] = y, path, "<no header/>"
    store = import_mri(str(tmp_path / "scan.h5"), str(tmp_path / "vol.zarr"), SIZE)
    np.testing.assert_array_equal(store.read(TRAJECTORY, 0, 1)[0], path)
    assert store.metadata.source.format == "HDF5"


@pytest.mark.parametrize(
    ("change", "choice", "undersampling", "message"),
    [
        ("zero", SIZE, None, "slice 1 has no sample but 0"),
        ("nan", SIZE, None, "slice 1 has samples that are NaN or infinite"),
        ("none", SIZE, Undersampling(2.0, "poisson"), "`pattern`, `calibration` and `seed` are for"),
        ("none", KSpaceChoice(image_size=(NY, NX), transform_z=True), None, "`transform_z` needs one"),
    ],
)  # fmt: skip
def test_what_cannot_be(
    scan: tuple[Any, Any], tmp_path: Path, change: str, choice: Any, undersampling: Any, message: str
) -> None:
    y, path = scan[0].copy(), np.stack([scan[1], -scan[1]])
    if change != "none":
        y[1, :, :3] = np.nan if change == "nan" else 0
        y[1, :, 3:] = y[1, :, 3:] if change == "nan" else 0
    with pytest.raises(InputError, match=message) as caught:
        import_mri(save(tmp_path, y, path), str(tmp_path / "vol.zarr"), choice, undersampling)
    assert caught.value.hint != "Set what was not sampled to 0"
    assert not (tmp_path / "vol.zarr").exists()


def test_matlab_turns_axes_round(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    with h5py.File(tmp_path / "scan.mat", "w", userblock_size=512) as file:
        pairs = np.empty(y.T.shape, [("real", "f4"), ("imag", "f4")])
        pairs["real"], pairs["imag"] = y.T.real, y.T.imag
        file["kspace"], file["trajectory"] = pairs, path.T
    store = import_mri(str(tmp_path / "scan.mat"), str(tmp_path / "vol.zarr"), SIZE)
    np.testing.assert_array_equal(store.measurements(0, 2), y)
    np.testing.assert_array_equal(store.read(TRAJECTORY, 0, 1)[0], path)


def test_from_ismrmrd_to_an_image(scan: tuple[Any, Any], tmp_path: Path) -> None:
    y, path = scan
    space = "<{0}><matrixSize><x>{1}</x><y>{2}</y><z>1</z></matrixSize><fieldOfView_mm><x>{3}</x><y>{4}</y>"
    space += "<z>5</z></fieldOfView_mm></{0}>"
    spaces = "".join(space.format(name, NX, NY, 2 * NX, 2 * NY) for name in ("encodedSpace", "reconSpace"))
    xml = (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{spaces}<encodingLimits/><trajectory>radial</trajectory></encoding></ismrmrdHeader>"
    )
    with ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset") as dataset:
        dataset.write_xml_header(xml.encode())
        for readout, own in enumerate(path):
            acquisition = ismrmrd.Acquisition.from_array(y[0, :, readout].copy(), own[:, ::-1].copy())
            dataset.append_acquisition(acquisition)
    store = import_mri(str(tmp_path / "scan.h5"), str(tmp_path / "vol.zarr"))
    assert geometry(store).image_shape == (NY, NX)
    assert geometry(store).voxel_mm == (5.0, 2.0, 2.0)
    assert reconstruction_error(store, tmp_path) < 0.15


@pytest.mark.parametrize(
    ("path", "choice", "undersampling", "message"),
    [
        (np.zeros((20, 8, 2)), KSpaceChoice(), None, "a trajectory without the size of its image"),
        (np.zeros((20, 8, 2)), KSpaceChoice(image_size=(0, 8)), None, "`image_size`: found 0 8"),
        (np.zeros((20, 9, 2)), SIZE, None, r"\(1, 20, 9, 2\) .* k-space of shape \(2, 1, 20, 8\)"),
        (np.zeros((3, 20, 8, 2)), SIZE, None, r"trajectory of shape \(3, 20, 8, 2\)"),
        (np.zeros((20, 8, 3)), SIZE, None, r"trajectory\): float64 numbers of shape \(20, 8, 3\)"),
        (np.zeros((20, 8, 2), complex), SIZE, None, "complex128 numbers of shape"),
        (np.full((20, 8, 2), np.nan), SIZE, None, "has values that are NaN or infinite"),
        (np.full((20, 8, 2), 20.0), SIZE, None, "reaches 20 cycles per pixel, expected 0.5 at most"),
        (np.zeros((20, 8, 2)), SIZE, Undersampling(21.0), "`acceleration`: found 21, expected 1 to 20"),
    ],
)  # fmt: skip
def test_bad_input_writes_nothing(
    tmp_path: Path, path: Any, choice: KSpaceChoice, undersampling: Undersampling | None, message: str
) -> None:
    file = tmp_path / "scan.npz"
    np.savez(file, k=np.ones((2, 1, 20, 8), np.complex64), trajectory=path)
    if path.dtype.kind == "c":
        choice = KSpaceChoice(key="k", image_size=(NY, NX))
    with pytest.raises(InputError, match=message):
        import_mri(str(file), str(tmp_path / "vol.zarr"), choice, undersampling)
    assert not (tmp_path / "vol.zarr").exists()
