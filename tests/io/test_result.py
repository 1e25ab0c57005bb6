"""The result store: a valid OME-Zarr image, published whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest
import zarr

from ddip_ray.errors import InputError
from ddip_ray.io.images.open import open_image
from ddip_ray.io.stores.result import (
    block_mean,
    create_result,
    load_file,
    open_result,
    plan_levels,
    store_file,
)
from ddip_ray.io.stores.schema import Orientation
from ddip_ray.io.stores.summary import summarize

SHAPE = (10, 33, 40)
VOXEL = (3.0, 1.5, 1.5)


def write(path, volume, *, shard_slices=4, provenance=None, **options):
    handle = create_result(path, volume.shape, VOXEL, shard_slices, coarsest=16, **options)
    for start in range(0, len(volume), shard_slices):
        handle.write_slab(start, volume[start : start + shard_slices])
    return handle.finalise(provenance or {"method": "dds"})


@pytest.fixture
def volume(rng):
    return rng.random(SHAPE, dtype=np.float32)


def test_round_trip(tmp_path, volume):
    provenance = {"config": {"seed": 3}, "psnr": 31.5, "adapter": None}
    result = write(tmp_path / "out.zarr", volume, provenance=provenance, unit="HU")
    result = pickle.loads(pickle.dumps(open_result(result.path)))
    assert (result.shape, result.voxel_mm, result.shard_slices) == (SHAPE, VOXEL, 4)
    assert result.provenance == provenance
    assert result.metadata.unit == "HU"
    np.testing.assert_array_equal(result.read(2, 10), volume[2:])


def test_whole_volume_or_some_of_its_slices(tmp_path, volume):
    result = write(tmp_path / "out.zarr", volume)
    np.testing.assert_array_equal(result.volume(), volume)
    np.testing.assert_array_equal(result.volume(3), volume[3:])
    np.testing.assert_array_equal(result.volume(3, 5), volume[3:5])
    with pytest.raises(InputError, match="does not say which acquisition"):
        result.volume(normalised=True)


@pytest.mark.parametrize("is_complex", [False, True])
def test_normalised_volume(tmp_path, volume, is_complex):
    intensity = {"offset": 0.0 if is_complex else -1000.0, "scale": 2000.0, "unit": "HU"}
    x = (volume * 1j).astype(np.complex64) if is_complex else volume
    stored = x * 2000 + intensity["offset"]
    result = write(
        tmp_path / "out.zarr",
        stored,
        provenance={"acquisition": {"intensity": intensity}},
        is_complex=is_complex,
    )
    assert result.intensity.scale == 2000
    np.testing.assert_allclose(result.volume(2, normalised=True), x[2:], atol=1e-6)


def test_coarser_levels_are_block_means(tmp_path, volume):
    result = write(tmp_path / "out.zarr", volume)
    assert result.num_levels == 3
    # z 3 mm and y 1.5 mm: first only y and x are halved, then all
    once = block_mean(volume, (1, 2, 2))
    np.testing.assert_allclose(result.read(0, 10, level=1), once, rtol=1e-6)
    np.testing.assert_allclose(result.read(0, 5, level=2), block_mean(once, (2, 2, 2)), rtol=1e-6)


def test_block_mean_at_an_odd_border():
    volume = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    expected = [[[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]]
    np.testing.assert_array_equal(block_mean(volume, (1, 2, 2)), expected)


def test_levels_keep_voxels_near_cubes_and_centres_in_place():
    levels = plan_levels((64, 512, 512), (4.0, 1.0, 1.0))
    assert [level.shape for level in levels] == [(64, 512, 512), (64, 256, 256), (64, 128, 128)]
    assert levels[2].voxel_mm == (4.0, 4.0, 4.0)
    assert levels[2].translation_mm == (0.0, 1.5, 1.5)
    cube = plan_levels((100, 200, 200), (1.0, 1.0, 1.0))
    assert cube[1].shape == (50, 100, 100)
    assert cube[1].translation_mm == (0.5, 0.5, 0.5)


def test_small_volume_has_one_level():
    assert len(plan_levels((128, 128, 128), (1.0, 1.0, 1.0))) == 1


def test_valid_ome_zarr(tmp_path, volume):
    from ome_zarr_models.v05 import Image

    write(tmp_path / "out.zarr", volume)
    image = Image.from_zarr(zarr.open_group(str(tmp_path / "out.zarr"), mode="r"))
    multiscale = image.ome_attributes.multiscales[0]
    assert [(a.name, a.type, a.unit) for a in multiscale.axes] == [
        (axis, "space", "millimeter") for axis in "zyx"
    ]
    assert [dataset.path for dataset in multiscale.datasets] == ["0", "1", "2"]
    scale, translation = multiscale.datasets[1].coordinateTransformations
    assert tuple(scale.scale) == (3.0, 3.0, 3.0)
    assert tuple(translation.translation) == (0.0, 0.75, 0.75)


def test_opens_as_an_image_again(tmp_path, volume):
    affine = tuple(tuple(float(v) for v in row) for row in np.diag([1.5, 1.5, 3, 1]))
    write(tmp_path / "out.zarr", volume, orientation=Orientation(directions="SAR", affine=affine), unit="HU")
    image = open_image(tmp_path / "out.zarr")
    assert image.voxel_mm == VOXEL
    assert image.affine == affine
    assert (image.unit, image.source.format) == ("HU", "OME-Zarr 0.5")
    np.testing.assert_array_equal(image.array.compute(), volume)


def test_two_processes_write_their_slabs(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    context = multiprocessing.get_context("spawn")
    slabs = [(0, volume[:4]), (4, volume[4:])]
    workers = [context.Process(target=handle.write_slab, args=slab) for slab in slabs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    np.testing.assert_array_equal(handle.finalise({}).read(0, 10), volume)


def test_side_files(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 10)
    handle.write_slab(0, volume)
    handle.store_file("adapter/adapter.safetensors", b"weights")
    handle.finalise({})
    store_file(tmp_path / "out.zarr", "figure.png", b"png")
    assert load_file(tmp_path / "out.zarr", "adapter/adapter.safetensors") == b"weights"
    assert load_file(tmp_path / "out.zarr", "figure.png") == b"png"
    # zarr-python lists the arrays and does not stumble over the files
    assert sorted(zarr.open_group(str(tmp_path / "out.zarr"), mode="r").array_keys()) == ["0"]
    with pytest.raises(InputError, match=r"has no file other\.png"):
        load_file(tmp_path / "out.zarr", "other.png")


@pytest.mark.parametrize("name", ["../evil", "/evil", "0/c/0", "zarr.json", ""])
def test_side_files_stay_beside_the_arrays(tmp_path, volume, name):
    write(tmp_path / "out.zarr", volume)
    with pytest.raises(ValueError, match="cannot be a file's name"):
        store_file(tmp_path / "out.zarr", name, b"")


def test_summary(tmp_path, volume):
    write(tmp_path / "out.zarr", volume)
    summary = json.loads(json.dumps(summarize(tmp_path / "out.zarr")))
    assert summary["store"] == "result"
    assert summary["image_shape"] == list(SHAPE)
    assert (summary["num_levels"], summary["num_shards"]) == (3, 3)


def test_cut_shards_are_refused_with_the_equation(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    with pytest.raises(ValueError, match=r"start 2 = 0 x 4 \+ 2, stop 6 = 1 x 4 \+ 2"):
        handle.write_slab(2, volume[2:6])


def test_diverged_slab_is_refused(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    volume[5, 6, 7] = np.nan
    with pytest.raises(InputError, match="first at z 5, y 6, x 7"):
        handle.write_slab(4, volume[4:8])


def test_missing_slab(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    handle.write_slab(0, volume[:4])
    with pytest.raises(RuntimeError, match="2 shards were never written, the first begins at slice 4"):
        handle.finalise({})
    assert not (tmp_path / "out.zarr").exists()
    handle.write_slab(4, volume[4:])
    handle.finalise({})
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_failed_finalise_can_be_repeated(tmp_path, volume, monkeypatch):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 10, coarsest=16)
    handle.write_slab(0, volume)
    with monkeypatch.context() as patch:
        patch.setattr("ddip_ray.io.stores.staging.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            handle.finalise({})
    assert handle.finalise({}).num_levels == 3


def test_provenance_must_be_plain_data(tmp_path, volume):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 10)
    handle.write_slab(0, volume)
    with pytest.raises(InputError, match=r"provenance\.psnr"):
        handle.finalise({"psnr": object()})


def test_existing_result_is_untouched_without_overwrite(tmp_path, volume, snapshot):
    write(tmp_path / "out.zarr", volume)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="already exists"):
        create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    assert snapshot(tmp_path) == before


def test_old_result_stays_until_the_new_one_is_complete(tmp_path, volume, snapshot):
    path = tmp_path / "out.zarr"
    write(path, volume)
    before = snapshot(path)
    with create_result(path, SHAPE, VOXEL, 10, overwrite=True) as handle:
        handle.write_slab(0, volume + 1)
        assert snapshot(path) == before
        handle.finalise({})
    assert os.listdir(tmp_path) == ["out.zarr"]
    np.testing.assert_array_equal(open_result(path).read(0, 10), volume + 1)
    with create_result(path, SHAPE, VOXEL, 10, overwrite=True) as handle:
        handle.write_slab(0, volume + 2)
    assert os.listdir(tmp_path) == ["out.zarr"]
    np.testing.assert_array_equal(open_result(path).read(0, 10), volume + 1)


def test_too_little_space(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 5})())
    with pytest.raises(InputError, match=r"needs up to 70,400 bytes, .* has 5 bytes free"):
        create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4)
    assert not os.listdir(tmp_path)


def test_not_a_result(tmp_path):
    zarr.create_group(str(tmp_path / "g.zarr"))
    with pytest.raises(InputError, match="not a result of ddip-ray"):
        open_result(tmp_path / "g.zarr")
    with pytest.raises(InputError, match="no such store"):
        open_result(tmp_path / "absent.zarr")


def test_damaged_ome_metadata(tmp_path, volume):
    write(tmp_path / "out.zarr", volume)
    root = tmp_path / "out.zarr" / "zarr.json"
    document = json.loads(root.read_text())
    document["attributes"]["ome"]["multiscales"][0]["datasets"] = []
    root.write_text(json.dumps(document))
    with pytest.raises(InputError, match="OME-Zarr metadata is damaged"):
        open_result(tmp_path / "out.zarr")


# --- complex images -------------------------------------------------------------------------


def test_complex_image_round_trip(tmp_path, rng):
    image = (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)).astype(np.complex64)
    result = write(tmp_path / "out.zarr", image, is_complex=True)
    assert result.is_complex
    assert (result.shape, result.voxel_mm, result.shard_slices) == (SHAPE, VOXEL, 4)
    np.testing.assert_allclose(result.read(2, 10), image[2:], atol=1e-5)
    once = block_mean(image, (1, 2, 2))  # of the image, not of magnitude and phase
    np.testing.assert_allclose(result.read(0, 10, level=1), once, atol=1e-5)
    np.testing.assert_allclose(result.read(0, 5, level=2), block_mean(once, (2, 2, 2)), atol=1e-5)


def test_complex_image_is_ome_zarr_with_magnitude_and_phase(tmp_path, rng):
    from ome_zarr_models.v05 import Image

    image = (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)).astype(np.complex64)
    write(tmp_path / "out.zarr", image, is_complex=True)
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    axes = Image.from_zarr(group).ome_attributes.multiscales[0].axes
    assert [axis.name for axis in axes] == ["c", "z", "y", "x"]
    assert group["0"].shape == (2, *SHAPE)
    assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")
    np.testing.assert_allclose(group["0"][0], np.abs(image), rtol=1e-6)
    np.testing.assert_allclose(group["0"][1], np.angle(image), rtol=1e-6)
    assert group.attrs["ddip_ray"]["channels"] == ["magnitude", "phase"]


def test_missing_slabs_of_a_complex_image(tmp_path):
    handle = create_result(tmp_path / "out.zarr", SHAPE, VOXEL, 4, is_complex=True)
    handle.write_slab(0, np.ones((4, *SHAPE[1:]), np.complex64))
    with pytest.raises(RuntimeError, match="2 shards were never written, the first begins at slice 4"):
        handle.finalise({})
    handle.abort()
