"""Adding a reader is adding one row to the table of its room."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.formats import Format, find_format
from ddip_ray.io.images import open as images
from ddip_ray.io.images.volume import ImageVolume
from ddip_ray.io.kspace import open as kspace
from ddip_ray.io.kspace.raw import RawKSpace
from ddip_ray.io.projections import open as projections
from ddip_ray.io.projections.raw import RawProjections
from ddip_ray.io.stores.schema import Orientation, Source

SHAPE = (2, 3, 4)


def _image(path: Path) -> ImageVolume:
    array = da.from_array(np.fromfile(path, "<f4").reshape(SHAPE))
    return ImageVolume(array, (1.0, 1.0, 1.0), Orientation(), Source(name=path.name, format="raw"))


@pytest.fixture
def raw_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.RAW"
    np.arange(24, dtype="<f4").tofile(path)
    return path


def test_an_image_reader_is_a_row(raw_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not an image format known here"):
        images.open_image(raw_file)
    row: Format[images.ReadFile] = Format("raw", (".raw",), lambda path, which: _image(path))
    monkeypatch.setattr(images, "FILES", (*images.FILES, row))
    np.testing.assert_array_equal(images.load_image(raw_file, (0.0, 16.0)).ravel()[:16], np.arange(16) / 16)
    other = raw_file.rename(raw_file.with_suffix(".other"))
    with pytest.raises(InputError, match=r"Accepted: NIfTI \(\.nii, \.nii\.gz\), .*raw \(\.raw\)"):
        images.open_image(other)


def test_a_reader_of_folders_is_a_row(raw_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row: Format[images.ReadFolder] = Format("raw", (".raw",), lambda folder, files: _image(files[0]))
    monkeypatch.setattr(images, "FOLDERS", (*images.FOLDERS, row))
    assert images.open_image(raw_file.parent).array.shape == SHAPE
    np.save(raw_file.parent / "b.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="mixed 1 npy files and 1 raw files"):
        images.open_image(raw_file.parent)


def test_a_kspace_reader_is_a_row(raw_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row: Format[kspace.ReadFile] = Format("raw", (".raw",), lambda path, key, axes: RawKSpace(key, "raw"))
    monkeypatch.setattr(kspace, "FILES", (*kspace.FILES, row))
    assert kspace.read_kspace(raw_file, "k").data == "k"


def test_a_projection_reader_is_a_row(raw_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row: Format[projections.ReadFile] = Format("raw", (".raw",), lambda path, key: RawProjections(key, "raw"))
    monkeypatch.setattr(projections, "FILES", (*projections.FILES, row))
    assert projections.read_projections(raw_file, "p").data == "p"


def test_formats_of_one_suffix_are_told_apart_by_content(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "fastmri.h5", "w") as file:
        file["kspace"] = np.zeros((1, 2, 4, 4), np.complex64)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["samples"] = np.zeros((1, 2, 4, 4), np.complex64)
    rows = [find_format(tmp_path / name, kspace.FILES) for name in ("fastmri.h5", "other.h5")]
    assert [row and row.name for row in rows] == ["fastMRI", "other HDF5"]
