"""NIfTI and DICOM, written by their own libraries: the same volume (z, y, x), whichever way it was stored."""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ddip_ray.errors import InputError
from ddip_ray.io.images.open import open_image


def save_nifti(path, array_xyz, affine=None, dtype=None):
    affine = np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine
    image = nibabel.Nifti1Image(array_xyz, affine, dtype=dtype)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(tmp_path, volume, name):
    save_nifti(tmp_path / name, volume.transpose(2, 1, 0))
    image = open_image(tmp_path / name)
    np.testing.assert_array_equal(image.array.compute(), volume)
    assert image.voxel_mm == (3.0, 2.0, 2.0)
    assert image.orientation.directions == "SAR"
    assert image.affine[2] == (0.0, 0.0, 3.0, 0.0)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA", "AIL"])
def test_nifti_of_any_orientation_turns_to_superior_anterior_right(tmp_path, volume, codes):
    """Every voxel keeps its place in the world, whichever way the file stored it."""
    ras = volume.transpose(2, 1, 0)
    affine = np.array([[2.0, 0, 0, -7], [0, 2.0, 0, 11], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    stored = nibabel.orientations.apply_orientation(ras, turn)
    stored_affine = affine @ nibabel.orientations.inv_ornt_aff(turn, ras.shape)
    assert nibabel.aff2axcodes(stored_affine) == tuple(codes)
    save_nifti(tmp_path / "a.nii", stored, stored_affine)
    image = open_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.array.compute(), volume)
    np.testing.assert_allclose(image.affine, affine)
    assert image.voxel_mm == (3.0, 2.0, 2.0)


def test_nifti_scaled_integers(tmp_path):
    values = np.linspace(-1, 1, 120).reshape(6, 5, 4)
    save_nifti(tmp_path / "a.nii", values, dtype=np.int16)
    image = open_image(tmp_path / "a.nii")
    assert image.array.dtype == np.float32
    np.testing.assert_allclose(image.array.compute(), values.transpose(2, 1, 0), atol=1e-4)


def test_nifti_4d_takes_the_chosen_volume(tmp_path, volume):
    stored = volume.transpose(2, 1, 0)
    save_nifti(tmp_path / "a.nii", np.stack([stored, stored + 1], axis=3))
    image = open_image(tmp_path / "a.nii", volume_index=1)
    np.testing.assert_array_equal(image.array.compute(), volume + 1)
    assert "volume 1 of 2" in image.source.history
    assert "volume 0 of 2" in open_image(tmp_path / "a.nii").source.history
    with pytest.raises(InputError, match=r"a\.nii: no volume 2, it has 2"):
        open_image(tmp_path / "a.nii", volume_index=2)


def test_nifti_in_micrometres(tmp_path, volume):
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([50.0, 50.0, 80.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    assert open_image(tmp_path / "a.nii").voxel_mm == pytest.approx((0.08, 0.05, 0.05))


def test_nifti_complex_or_flat_or_broken(tmp_path, volume):
    save_nifti(tmp_path / "c.nii", volume.astype(np.complex64))
    with pytest.raises(InputError, match=r"c\.nii: a complex image .* magnitude"):
        open_image(tmp_path / "c.nii")
    save_nifti(tmp_path / "f.nii", volume[0])
    with pytest.raises(InputError, match=r"f\.nii: 2 axes of shape \(5, 6\), expected 3"):
        open_image(tmp_path / "f.nii")
    for nonsense in (b"no image at all", b"no image at all" * 50):
        (tmp_path / "b.nii").write_bytes(nonsense)
        with pytest.raises(InputError, match=r"b\.nii: cannot be read as NIfTI"):
            open_image(tmp_path / "b.nii")
    save_nifti(tmp_path / "t.nii.gz", volume)
    (tmp_path / "t.nii.gz").write_bytes((tmp_path / "t.nii.gz").read_bytes()[:150])
    with pytest.raises(InputError, match=r"t\.nii\.gz: cannot be read as NIfTI"):
        open_image(tmp_path / "t.nii.gz")


# DICOM


def save_dicom(folder, volume, *, step=3.0, series="1.2.3", direction=(1, 0, 0, 0, 1, 0), prefix="IM"):
    """One file a slice, stored as 2 x value + 10, names in the reverse of their order."""
    across, down = np.reshape(direction, (2, 3))
    normal = np.cross(across, down)
    for i, pixels in enumerate(volume):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{prefix}{len(volume) - i}"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.SeriesDescription, data.Modality = series, f"series {series}", "CT"
        data.ImageOrientationPatient = [float(v) for v in direction]
        data.ImagePositionPatient = [float(v) for v in normal * i * step]
        data.PixelSpacing = [2.0, 1.5]
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 0.5, -5
        data.PixelData = (pixels * 2 + 10).astype("<i2").tobytes()
        pydicom.dcmwrite(path, data, enforce_file_format=True)


def test_dicom_axial(tmp_path, volume):
    save_dicom(tmp_path, volume)
    (tmp_path / "notes.txt").write_text("not an image")
    image = open_image(tmp_path)
    # rows run to Left and down to Posterior, we to Right and Anterior
    np.testing.assert_array_equal(image.array.compute(), volume[:, ::-1, ::-1])
    assert image.voxel_mm == pytest.approx((3.0, 2.0, 1.5))
    assert (image.unit, image.orientation.directions) == ("HU", "SAR")
    # the first pixel of the first slice lies at the world's origin
    world = np.array(image.affine) @ [volume.shape[2] - 1, volume.shape[1] - 1, 0, 1]
    np.testing.assert_allclose(world, [0, 0, 0, 1], atol=1e-9)


def test_dicom_sagittal_turns_like_any_other(tmp_path, volume):
    save_dicom(tmp_path, volume, direction=(0, 1, 0, 0, 0, -1))
    image = open_image(tmp_path)
    assert image.array.shape == (5, 6, 4)
    assert image.voxel_mm == pytest.approx((2.0, 1.5, 3.0))
    # slices: right to left or back; rows: Superior to Inferior; columns: Anterior to Posterior
    np.testing.assert_array_equal(image.array.compute(), volume.transpose(1, 2, 0)[::-1, ::-1])


def test_dicom_mixed_series(tmp_path, volume):
    save_dicom(tmp_path, volume)
    save_dicom(tmp_path, volume[:3], series="4.5.6", prefix="other")
    with pytest.raises(InputError, match=r"2 DICOM series, expected one:\n  - . files, series"):
        open_image(tmp_path)


def test_dicom_gap(tmp_path, volume):
    save_dicom(tmp_path, volume)
    (tmp_path / "IM2").unlink()
    with pytest.raises(InputError, match=r"not evenly spaced: [36]\.000 mm between IM\d and IM\d"):
        open_image(tmp_path)


def test_dicom_file_instead_of_its_folder(tmp_path, volume):
    save_dicom(tmp_path, volume)
    with pytest.raises(InputError, match="Give the folder of the DICOM series"):
        open_image(tmp_path / "IM1")
