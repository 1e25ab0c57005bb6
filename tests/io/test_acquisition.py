"""The acquisition store: round trips, and every way it can go wrong."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import zarr

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.stores import arrays
from ddip_ray.io.stores.acquisition import create_acquisition, open_acquisition
from ddip_ray.io.stores.arrays import shard_slices
from ddip_ray.io.stores.result import create_result
from ddip_ray.io.stores.summary import summarize

NUM_SLICES = 70  # two slices a shard


def write(path, metadata, rng, *, num_slices=NUM_SLICES, with_reference=True, then=None, **options):
    y = rng.random((num_slices, 6, 16), dtype=np.float32)
    x = rng.random((num_slices, 10, 12), dtype=np.float32)
    with create_acquisition(path, metadata, num_slices, with_reference, **options) as writer:
        writer.write_measurements(0, y)
        if with_reference:
            writer.write_reference(0, x)
        if then is not None:
            then()
    return y, x


@pytest.fixture
def store(tmp_path, metadata, rng):
    path = tmp_path / "vol.zarr"
    return path, *write(path, metadata, rng)


def edit_root(path, change):
    root = json.loads((path / "zarr.json").read_text())
    change(root["attributes"]["ddip_ray"])
    (path / "zarr.json").write_text(json.dumps(root))


def test_round_trip(store, metadata):
    path, y, x = store
    acquisition = pickle.loads(pickle.dumps(open_acquisition(path)))
    assert acquisition.metadata == metadata
    assert (acquisition.num_slices, acquisition.shard_slices) == (NUM_SLICES, 2)
    assert acquisition.has_reference
    np.testing.assert_array_equal(acquisition.measurements(3, 9), y[3:9])
    np.testing.assert_array_equal(acquisition.measurements(), y)
    np.testing.assert_array_equal(acquisition.reference(), x)


def test_readable_with_zarr_alone(store):
    path, y, _ = store
    group = zarr.open_group(str(path), mode="r")
    assert sorted(group.array_keys()) == ["measurements", "reference"]
    array = group["measurements"]
    assert array.metadata.dimension_names == ("z", "view", "detector")
    assert (array.shards, array.chunks) == ((2, 6, 16), (1, 6, 16))
    np.testing.assert_array_equal(array[:], y)


def test_file_url(store):
    path, y, _ = store
    np.testing.assert_array_equal(open_acquisition(f"file://{path}").measurements(0, 2), y[:2])


@pytest.mark.parametrize(("num_slices", "expected"), [(1, 1), (64, 1), (65, 2), (128, 2), (1024, 16)])
def test_at_most_64_shards(num_slices, expected):
    assert shard_slices(num_slices) == expected


def test_large_slices_are_cut_into_chunks_of_at_most_4_mib(tmp_path, metadata, rng):
    views = tuple(np.linspace(0, 180, 1100, endpoint=False))
    geometry = metadata.acquisition.model_copy(update={"angles_deg": views, "num_detectors": 1024})
    y = rng.random((1, 1100, 1024), dtype=np.float32)
    large = metadata.model_copy(update={"acquisition": geometry})
    with create_acquisition(tmp_path / "a", large, 1, with_reference=False) as writer:
        writer.write_measurements(0, y)
    array = zarr.open_array(str(tmp_path / "a" / "measurements"), mode="r")
    assert array.chunks == (1, 550, 1024)
    np.testing.assert_array_equal(open_acquisition(tmp_path / "a").measurements(0, 1), y)


def test_summary_is_plain_data(store):
    path, *_ = store
    summary = json.loads(json.dumps(summarize(path)))
    assert summary["kind"] == "parallel_ct"
    assert summary["measurements_shape"] == [NUM_SLICES, 6, 16]
    assert summary["angular_range_deg"] == [0.0, 150.0]
    assert (summary["shard_slices"], summary["num_shards"]) == (2, 35)
    assert summary["noise"] == {"kind": "gaussian", "relative_std": 0.01, "std": 0.3, "seed": 7}
    assert summary["bytes_on_disk"] > NUM_SLICES * 6 * 16 * 2


def test_two_processes_write_disjoint_shards(tmp_path, metadata):
    writer = create_acquisition(tmp_path / "vol.zarr", metadata, 80, with_reference=False)
    context = multiprocessing.get_context("spawn")
    parts = [(start, np.full((40, 6, 16), value, np.float32)) for start, value in ((0, 1.0), (40, 2.0))]
    workers = [context.Process(target=writer.write_measurements, args=part) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    y = writer.commit().measurements(0, 80)
    assert (y[:40] == 1).all()
    assert (y[40:] == 2).all()


# What can be wrong with a store


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"absent\.zarr: no such store"):
        open_acquisition(tmp_path / "absent.zarr")


def test_not_zarr(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="not a Zarr v3 store"):
        open_acquisition(tmp_path)


def test_zarr_array_instead_of_a_group(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(2, 2), dtype="f4")
    with pytest.raises(InputError, match="a Zarr array, expected a group"):
        open_acquisition(tmp_path / "a.zarr")


def test_zarr_but_no_acquisition(tmp_path):
    zarr.create_group(str(tmp_path / "g.zarr"))
    with pytest.raises(InputError, match="not an acquisition"):
        open_acquisition(tmp_path / "g.zarr")


def test_damaged_root(store):
    path, *_ = store
    (path / "zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"zarr\.json is damaged"):
        open_acquisition(path)


def test_wrong_version(store):
    path, *_ = store
    edit_root(path, lambda raw: raw.update(version=9))
    with pytest.raises(InputError, match=r"vol\.zarr: version 9 .* reads version 1"):
        open_acquisition(path)


def test_unknown_field(store):
    path, *_ = store
    edit_root(path, lambda raw: raw["intensity"].update(gamma=2))
    with pytest.raises(InputError, match=r"vol\.zarr: .*\n  - intensity\.gamma: Extra inputs"):
        open_acquisition(path)


def test_angles_do_not_match_views(store):
    path, *_ = store
    edit_root(path, lambda raw: raw["acquisition"]["angles_deg"].pop())
    with pytest.raises(InputError, match=r"5 angles in acquisition\.angles_deg, 6 views in measurements"):
        open_acquisition(path)


def test_reference_of_another_shape(store):
    path, *_ = store
    edit_root(path, lambda raw: raw["acquisition"].update(image_shape=[11, 12]))
    with pytest.raises(InputError, match=r"has shape \(70, 10, 12\), the metadata says \(70, 11, 12\)"):
        open_acquisition(path)


def test_measurements_of_another_type(store):
    path, *_ = store
    zarr.create_array(str(path / "measurements"), shape=(70, 6, 16), dtype="f8", overwrite=True)
    with pytest.raises(InputError, match="measurements is float64, expected float32"):
        open_acquisition(path)


def test_measurements_missing(store):
    path, *_ = store
    (path / "measurements" / "zarr.json").unlink()
    with pytest.raises(InputError, match="measurements: no such array"):
        open_acquisition(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_names_the_first_place_and_the_count(store, value):
    path, y, _ = store
    y[5, 2, 3] = y[5, 4, 1] = value
    arrays.write_shards(paths.join(path, "measurements"), 4, y[4:6])
    acquisition = open_acquisition(path)
    acquisition.measurements(0, 5)
    with pytest.raises(InputError, match=r"2 of 288 values are NaN.* first at z 5, view 2, detector 3"):
        acquisition.measurements(4, 7)


def test_lost_shard_reads_as_nan_not_as_air(store):
    path, *_ = store
    (path / "measurements/c/3/0/0").unlink()
    with pytest.raises(InputError, match="first at z 6"):
        open_acquisition(path).measurements(0, 10)


def test_damaged_shard(store):
    path, *_ = store
    shard = path / "measurements/c/3/0/0"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(InputError, match="slices 6 to 8 are damaged"):
        open_acquisition(path).measurements(6, 8)


def test_slices_outside_the_store(store):
    with pytest.raises(IndexError, match=r"60 to 71 of .* which has 70"):
        open_acquisition(store[0]).measurements(60, 71)


def test_no_reference(tmp_path, metadata, rng):
    write(tmp_path / "vol.zarr", metadata, rng, with_reference=False)
    with pytest.raises(InputError, match="has no reference"):
        open_acquisition(tmp_path / "vol.zarr").reference(0, 1)


# What can go wrong while writing


def test_existing_store_is_untouched_without_overwrite(store, metadata, snapshot):
    path, *_ = store
    before = snapshot(path.parent)
    with pytest.raises(InputError, match=r"already exists.*`overwrite=True`"):
        create_acquisition(path, metadata, 4, with_reference=False)
    assert snapshot(path.parent) == before


def test_failed_overwrite_leaves_the_old_store_and_nothing_else(store, metadata, rng, snapshot):
    path, *_ = store
    before = snapshot(path.parent)
    with pytest.raises(ZeroDivisionError):
        write(path, metadata, rng, num_slices=4, overwrite=True, then=lambda: 1 / 0)
    assert snapshot(path.parent) == before
    assert os.listdir(path.parent) == ["vol.zarr"]


def test_overwrite_replaces_the_whole_store(store, metadata, rng):
    path, *_ = store
    y, _ = write(path, metadata, rng, num_slices=3, with_reference=False, overwrite=True)
    assert os.listdir(path.parent) == ["vol.zarr"]
    assert not open_acquisition(path).has_reference
    np.testing.assert_array_equal(open_acquisition(path).measurements(0, 3), y)


def test_failed_rename_puts_the_old_store_back(store, metadata, rng, monkeypatch, snapshot):
    path, *_ = store
    before = snapshot(path)
    rename = type(path).rename

    def refuse(self, target):
        if ".partial-" in self.name:
            raise OSError(errno.EIO, "disk trouble")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", refuse)
    with pytest.raises(OSError, match="disk trouble"):
        write(path, metadata, rng, num_slices=3, overwrite=True)
    assert snapshot(path) == before


def test_overwrite_never_deletes_what_is_not_ours(tmp_path, metadata, snapshot):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError, match="not a store written by ddip-ray"):
        create_acquisition(photographs, metadata, 4, with_reference=False, overwrite=True)
    assert snapshot(tmp_path) == {"photographs/cat.jpg": b"cat"}


def test_overwrite_replaces_its_own_kind_alone(store, metadata, snapshot):
    path, *_ = store
    result = path.parent / "result.zarr"
    handle = create_result(result, (2, 40, 40), (1.0, 1.0, 1.0), 2)
    handle.write_slab(0, np.zeros((2, 40, 40), np.float32))
    handle.finalise({})
    before = snapshot(path.parent)
    with pytest.raises(InputError, match="an acquisition, which a result does not replace"):
        create_result(path, (2, 40, 40), (1.0, 1.0, 1.0), 2, overwrite=True)
    with pytest.raises(InputError, match="a result, which an acquisition does not replace"):
        create_acquisition(result, metadata, 4, with_reference=False, overwrite=True)
    assert snapshot(path.parent) == before


def test_missing_folder(tmp_path, metadata):
    with pytest.raises(InputError, match="there is no folder"):
        create_acquisition(tmp_path / "typo" / "vol.zarr", metadata, 4, with_reference=False)


def test_uncommitted_store_is_invisible(tmp_path, metadata):
    writer = create_acquisition(tmp_path / "vol.zarr", metadata, 2, with_reference=False)
    writer.write_measurements(0, np.ones((2, 6, 16)))
    assert not (tmp_path / "vol.zarr").exists()
    writer.abort()
    assert not os.listdir(tmp_path)


def test_commit_refuses_gaps(tmp_path, metadata):
    with (
        pytest.raises(RuntimeError, match=r"34 shards of measurements .* begins at slice 2"),
        create_acquisition(tmp_path / "vol.zarr", metadata, 70, with_reference=False) as writer,
    ):
        writer.write_measurements(0, np.ones((2, 6, 16)))
    assert not os.listdir(tmp_path)


def test_parts_of_shards_are_refused(tmp_path, metadata):
    writer = create_acquisition(tmp_path / "vol.zarr", metadata, 70, with_reference=False)
    with pytest.raises(ValueError, match="not whole shards: start 3 = 1 x 2 \\+ 1"):
        writer.write_measurements(3, np.ones((2, 6, 16)))
    with pytest.raises(ValueError, match="stop 3 = 1 x 2 \\+ 1"):
        writer.write_measurements(0, np.ones((3, 6, 16)))
    with pytest.raises(ValueError, match=r"slices of shape \(5, 16\), expected \(6, 16\)"):
        writer.write_measurements(0, np.ones((2, 5, 16)))


def test_nan_is_not_written(tmp_path, metadata):
    writer = create_acquisition(tmp_path / "vol.zarr", metadata, 2, with_reference=False)
    with pytest.raises(InputError, match="first at z 1, view 0, detector 0"):
        writer.write_measurements(0, np.stack([np.ones((6, 16)), np.full((6, 16), np.nan)]))


def test_temporaries_of_killed_processes_are_swept(tmp_path, metadata, rng):
    script = (
        "import os, pickle, sys; from ddip_ray.io.stores.acquisition import create_acquisition;"
        "create_acquisition(sys.argv[1], pickle.loads(bytes.fromhex(sys.argv[2])), 4, False);"
        "os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "vol.zarr"
    killed = subprocess.run(
        [sys.executable, "-c", script, str(target), pickle.dumps(metadata).hex()], check=False, timeout=60
    )
    assert killed.returncode == -9
    assert [name.startswith(".vol.zarr.partial-") for name in os.listdir(tmp_path)] == [True]
    write(target, metadata, rng, num_slices=2)
    assert os.listdir(tmp_path) == ["vol.zarr"]


def test_too_little_space_is_said_before_writing(tmp_path, metadata, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"needs up to 26,880 bytes, .* has 1,000 bytes free"):
        create_acquisition(tmp_path / "vol.zarr", metadata, 70, with_reference=False)
    assert not os.listdir(tmp_path)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 KiB."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("cannot mount a small file system here (needs root)")
    yield mount
    subprocess.run(["umount", str(mount)], check=True, timeout=10)


def test_full_disk(tiny_disk, metadata, rng, monkeypatch):
    monkeypatch.setattr(paths, "require_free_space", lambda *_: None)
    with pytest.raises(InputError, match=r"no space left on the disk.*Free some space"):
        write(tiny_disk / "vol.zarr", metadata, rng, num_slices=2000)
    assert not os.listdir(tiny_disk)


def test_full_disk_reported_by_the_system(tmp_path, metadata, rng, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.rename", fail)
    with pytest.raises(InputError, match=r"vol\.zarr: no space left"):
        write(tmp_path / "vol.zarr", metadata, rng, num_slices=2)
    assert not os.listdir(tmp_path)
