"""Results as NIfTI, read back by nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.images.nifti import read_nifti
from ddip_ray.io.stores.result import create_result
from ddip_ray.io.stores.schema import Orientation
from ddip_ray.tasks import slices
from ddip_ray.tasks.export import export

AFFINE = ((0.0, -2.0, 0.0, 5.0), (1.5, 0.0, 0.0, 6.0), (0.0, 0.0, 3.0, 7.0), (0.0, 0.0, 0.0, 1.0))
VOXEL = (3.0, 2.0, 1.5)


def result(path: Path, volume: Any, orientation: Orientation | None = None) -> str:
    is_complex = np.iscomplexobj(volume)
    handle = create_result(path, volume.shape, VOXEL, 2, orientation=orientation, is_complex=is_complex)
    handle.write_slab(0, volume)
    handle.finalise({})
    return str(path)


def volume() -> Any:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((5, 4, 3)) + 1j * rng.standard_normal((5, 4, 3))).astype(np.complex64)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_values_and_place(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLAB_BYTES", 1)  # several slabs
    x, seen = volume().real, []
    source = result(tmp_path / "x.zarr", x, Orientation(directions="SRA", affine=AFFINE))
    export(source, tmp_path / f"x{ending}", report=lambda done, total, _: seen.append((done, total)))
    image: Any = nibabel.load(tmp_path / f"x{ending}")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), x.transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-5)
    assert image.header.get_zooms() == VOXEL[::-1]
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 2)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    again = read_nifti(tmp_path / f"x{ending}", 0)
    assert again.voxel_mm == pytest.approx((3.0, 1.5, 2.0))  # x grew to Anterior
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_unknown_place_is_not_made_up(tmp_path: Path) -> None:
    export(result(tmp_path / "x.zarr", volume().real), tmp_path / "x.nii")
    image: Any = nibabel.load(tmp_path / "x.nii")
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (0, 0)
    assert image.header.get_zooms() == VOXEL[::-1]
    assert read_nifti(tmp_path / "x.nii", 0).orientation == Orientation()


def test_magnitude_and_phase(tmp_path: Path) -> None:
    x = volume()
    source = result(tmp_path / "x.zarr", x)
    export(source, tmp_path / "m.nii")
    export(source, tmp_path / "p.nii", phase=True)
    for name, expected in (("m", np.abs(x)), ("p", np.angle(x))):
        image: Any = nibabel.load(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(image.get_fdata(), expected.transpose(2, 1, 0), atol=1e-5)


def test_what_stands_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = result(tmp_path / "x.zarr", volume().real), tmp_path / "x.nii"
    output.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"x\.nii: already exists"):
        export(source, output)
    monkeypatch.setattr(slices, "SLAB_BYTES", 1)

    def fail(done: int, total: int, words: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="no space left"):
        export(source, output, overwrite=True, report=fail)
    assert output.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.nii", "x.zarr"]
    export(source, output, overwrite=True)
    assert nibabel.load(output).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("x.nii", {"phase": True}, "the image is real and has no phase"),
        ("x.png", {}, r"x\.png: expected a name ending in \.nii or \.nii\.gz"),
        ("no/x.nii", {}, "there is no folder"),
        ("x.zarr/0.nii", {"overwrite": True}, r"0\.nii: is a folder"),
    ],
)
def test_what_cannot_be(tmp_path: Path, name: str, settings: dict[str, bool], message: str) -> None:
    source = result(tmp_path / "x.zarr", volume().real)
    (tmp_path / "x.zarr" / "0.nii").mkdir()
    with pytest.raises(InputError, match=message):
        export(source, tmp_path / name, **settings)
