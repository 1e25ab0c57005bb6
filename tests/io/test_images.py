"""Each image format, written by its own library, reads as the same volume (z, y, x)."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from ddip_ray.errors import InputError
from ddip_ray.io.images.open import HU_WINDOW, choose_window, normalise, open_image
from ddip_ray.io.images.volume import natural_key


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
    with pytest.raises(InputError, match="`window`: found 5 to 2"):
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
