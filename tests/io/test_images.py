"""Each image format, written by its own library, reads as the same volume (z, y, x)."""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import zarr
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ddip_ray.errors import InputError
from ddip_ray.io.image_volume import natural_key
from ddip_ray.io.images import HU_WINDOW, choose_window, normalise, open_image


@pytest.fixture
def volume(rng):
    """(z, y, x) = (4, 5, 6), integers that survive any format."""
    return rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


# NIfTI


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


# NumPy


def test_npy(tmp_path, volume):
    np.save(tmp_path / "a.npy", volume)
    image = open_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.array.compute(), volume)
    assert "1 mm assumed" in image.source.history[-1]
    given = open_image(tmp_path / "a.npy", voxel_mm=(2.0, 1.0, 1.0))
    assert given.voxel_mm == (2.0, 1.0, 1.0)
    assert given.source.history == ("voxel (2.0, 1.0, 1.0) mm given by hand",)


def test_npy_never_unpickles(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as npy"):
        open_image(tmp_path / "a.npy")


def test_npz(tmp_path, volume):
    np.savez(tmp_path / "a.npz", volume=volume, mask=volume > 0, voxel_mm_zyx=[3.0, 2.0, 2.0])
    image = open_image(tmp_path / "a.npz")
    np.testing.assert_array_equal(image.array.compute(), volume)
    assert image.voxel_mm == (3.0, 2.0, 2.0)
    np.testing.assert_array_equal(open_image(tmp_path / "a.npz", key="mask").array.compute(), volume > 0)
    with pytest.raises(InputError, match="no array 'head', it has volume, mask"):
        open_image(tmp_path / "a.npz", key="head")


def test_npz_with_one_or_two_3d_arrays(tmp_path, volume):
    np.savez(tmp_path / "one.npz", head=volume, angles=np.arange(3))
    np.testing.assert_array_equal(open_image(tmp_path / "one.npz").array.compute(), volume)
    np.savez(tmp_path / "two.npz", head=volume, tail=volume)
    with pytest.raises(InputError, match=r"2 3D arrays among head .*, tail"):
        open_image(tmp_path / "two.npz")


def test_npz_broken(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="cannot be read as npz"):
        open_image(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", volume=np.array([{"no": "array"}], dtype=object))
    with pytest.raises(InputError, match="array 'volume' cannot be read"):
        open_image(tmp_path / "b.npz")


def test_folder_of_npy_in_natural_order(tmp_path, rng):
    volume = rng.random((12, 5, 6), dtype=np.float32)
    for i, image in enumerate(volume):
        np.save(tmp_path / f"slice_{i}.npy", image)
    opened = open_image(tmp_path)
    np.testing.assert_array_equal(opened.array.compute(), volume)
    assert opened.array.chunks[0] == (1,) * 12


def test_ragged_folder(tmp_path, volume):
    np.save(tmp_path / "0.npy", volume[0])
    np.save(tmp_path / "1.npy", volume[1, :-1])
    with pytest.raises(InputError, match=r"slices differ in shape: 0\.npy \(5, 6\), 1\.npy \(4, 6\)"):
        open_image(tmp_path)
    np.save(tmp_path / "1.npy", volume)
    with pytest.raises(InputError, match=r"1\.npy: shape \(4, 5, 6\), expected one slice"):
        open_image(tmp_path)


def test_natural_key(tmp_path):
    files = [tmp_path / name for name in ("a10", "a9", "b1", "10", "9")]
    assert [file.name for file in sorted(files, key=natural_key)] == ["9", "10", "a9", "a10", "b1"]


# TIFF


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_tiff(tmp_path, volume, options):
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack", metadata=None, **options)
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array.compute(), volume)
    assert image.voxel_mm == (1.0, 1.0, 1.0)


def test_tiff_with_imagej_spacing(tmp_path, volume):
    tifffile.imwrite(
        tmp_path / "a.tif", volume.astype(np.float32), imagej=True, resolution=(1 / 20, 1 / 25),
        metadata={"spacing": 30.0, "unit": "um", "axes": "ZYX"},
    )  # fmt: skip
    image = open_image(tmp_path / "a.tif")
    assert image.voxel_mm == pytest.approx((0.03, 0.025, 0.02))
    np.testing.assert_array_equal(image.array.compute(), volume)


def test_tiff_with_ome_spacing(tmp_path, volume):
    sizes = {"PhysicalSizeZ": 3, "PhysicalSizeY": 2, "PhysicalSizeX": 2}
    units = {f"{name}Unit": "mm" for name in sizes}
    tifffile.imwrite(tmp_path / "a.ome.tif", volume, metadata={"axes": "ZYX", **sizes, **units})
    image = open_image(tmp_path / "a.ome.tif")
    assert image.voxel_mm == (3.0, 2.0, 2.0)
    np.testing.assert_array_equal(image.array.compute(), volume)


def test_folder_of_tiff(tmp_path, volume):
    for i, image in enumerate(volume):
        tifffile.imwrite(tmp_path / f"s{i + 8}.tif", image)
    np.testing.assert_array_equal(open_image(tmp_path).array.compute(), volume)
    tifffile.imwrite(tmp_path / "s20.tif", volume[0, :3])
    with pytest.raises(InputError, match=r"slices differ in shape: s8\.tif \(5, 6\), s20\.tif \(3, 6\)"):
        open_image(tmp_path)


def test_tiff_colour_flat_or_broken(tmp_path, volume):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="a colour image"):
        open_image(tmp_path / "rgb.tif")
    tifffile.imwrite(tmp_path / "flat.tif", volume[0])
    with pytest.raises(InputError, match="2 axes"):
        open_image(tmp_path / "flat.tif")
    (tmp_path / "b.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        open_image(tmp_path / "b.tif")


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


# OME-Zarr of others


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, volume, version):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("s0", data=np.stack([volume, volume + 1])[:, None], chunks=(1, 1, 2, 5, 6))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 30.0, 20.0, 20.0]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": scale}]}]
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **multiscales[0]}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    image = open_image(tmp_path / "a.zarr", volume_index=1)
    np.testing.assert_array_equal(image.array.compute(), volume + 1)
    assert image.voxel_mm == pytest.approx((0.03, 0.02, 0.02))
    assert image.source.format == f"OME-Zarr {version}"
    with pytest.raises(InputError, match="no volume 2, it has 2"):
        open_image(tmp_path / "a.zarr", volume_index=2)


def test_zarr_array_and_group_without_metadata(tmp_path, volume):
    zarr.create_array(str(tmp_path / "a.zarr"), data=volume)
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").array.compute(), volume)
    zarr.create_group(str(tmp_path / "g.zarr"))
    with pytest.raises(InputError, match="without OME-Zarr multiscales"):
        open_image(tmp_path / "g.zarr")


def test_damaged_ome_zarr(tmp_path):
    zarr.create_group(str(tmp_path / "g.zarr"), attributes={"ome": {"version": "0.5", "multiscales": [{}]}})
    with pytest.raises(InputError, match="OME-Zarr metadata is damaged"):
        open_image(tmp_path / "g.zarr")


# What is no image


def test_unknown_formats(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    with pytest.raises(InputError, match=r"a\.jpg: not an image format known here. Accepted: NIfTI"):
        open_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"none of its 1 files is an image known here. Accepted: NIfTI"):
        open_image(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        open_image(tmp_path / "absent.nii")


def test_mixed_folder(tmp_path, volume):
    np.save(tmp_path / "a.npy", volume[0])
    tifffile.imwrite(tmp_path / "b.tif", volume[0])
    with pytest.raises(InputError, match="mixed 1 npy files and 1 TIFF files"):
        open_image(tmp_path)


# Normalisation


def open_array(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    return open_image(tmp_path / "a.npy")


@pytest.mark.parametrize("clip", [True, False])
def test_normalise_in_a_given_window(tmp_path, volume, clip):
    volume[0, 0, 0] = 3000
    x, intensity = normalise(open_array(tmp_path, volume), HU_WINDOW, clip)
    assert x.dtype == np.float32
    expected = (volume.astype(np.float64) + 1000) / 2000
    np.testing.assert_allclose(x.compute(), expected.clip(0, 1) if clip else expected, atol=1e-6)
    assert (intensity.offset, intensity.scale) == (-1000.0, 2000.0)


def test_default_window_ignores_stray_voxels(tmp_path, rng):
    volume = rng.random((20, 50, 50), dtype=np.float32)
    volume[3, 3, 3] = 1e6
    low, high = choose_window(open_array(tmp_path, volume))
    assert 0 <= low < 0.01
    assert 0.99 < high < 1.01


def test_constant_image_and_bad_window(tmp_path):
    image = open_array(tmp_path, np.ones((3, 3, 3)))
    with pytest.raises(InputError, match="nearly every voxel is 1"):
        normalise(image)
    with pytest.raises(InputError, match="window 5 to 2"):
        normalise(image, (5.0, 2.0))


# Real data


def test_real_abdomen(real_data):
    """The prepared array is the NIfTI padded in the plane and cropped along z."""
    nifti = open_image(real_data("ct_abdomen_totalseg/example_ct.nii.gz"))
    prepared = open_image(real_data("ct_abdomen_totalseg/ct_abdomen_128.npz"))
    assert nifti.voxel_mm == pytest.approx(prepared.voxel_mm)
    assert prepared.unit == "HU"
    assert nifti.array.shape == (112, 101, 122)
    np.testing.assert_array_equal(prepared.array.compute()[:, 13:114, 3:125], nifti.array.compute())


def test_real_head_is_turned(real_data):
    head = open_image(real_data("mri_t1_datalad/t1w_full.nii.gz"))
    assert head.array.shape == (384, 384, 274)
    assert head.voxel_mm == pytest.approx((0.6667, 0.6667, 0.7), abs=1e-3)
    assert "axes LPS (x, y, z) turned to RAS" in head.source.history
