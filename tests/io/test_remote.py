"""The same stores in an S3 bucket (a server of our own on loopback), and read over plain http."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io import paths
from ddip_ray.io.images.open import open_image
from ddip_ray.io.stores import arrays
from ddip_ray.io.stores.acquisition import create_acquisition, open_acquisition
from ddip_ray.io.stores.result import create_result, load_file, open_result
from ddip_ray.io.stores.summary import summarize


def write(path, metadata, value, **options):
    with create_acquisition(path, metadata, 3, with_reference=False, **options) as writer:
        for start in range(3):
            writer.write_measurements(start, np.full((1, 6, 16), value, np.float32))


def test_acquisition(s3, metadata):
    path = f"{s3}/folder/round_trip.zarr"
    write(path, metadata, 2.0)
    assert open_acquisition(path).metadata == metadata
    assert (open_acquisition(path).measurements(0, 3) == 2).all()
    assert summarize(path)["bytes_on_disk"] is None


def test_invisible_until_committed_then_no_marker_left(s3, metadata):
    path = f"{s3}/pending.zarr"
    writer = create_acquisition(path, metadata, 3, with_reference=False)
    writer.write_measurements(0, np.ones((3, 6, 16)))
    with pytest.raises(InputError, match="left unfinished"):
        open_acquisition(path)
    writer.commit()
    assert sorted({key.split("/")[0] for key in paths.list_keys(path)}) == ["measurements", "zarr.json"]


def test_existing_store_needs_overwrite_and_is_whole_until_then(s3, metadata):
    path = f"{s3}/swap/replaced.zarr"
    write(path, metadata, 1.0)
    with pytest.raises(InputError, match="already exists"):
        write(path, metadata, 2.0)
    writer = create_acquisition(path, metadata, 3, with_reference=False, overwrite=True)
    writer.write_measurements(0, np.full((3, 6, 16), 3.0))
    assert (open_acquisition(path).measurements(0, 3) == 1).all()
    writer.commit()
    assert (open_acquisition(path).measurements(0, 3) == 3).all()
    assert all(key.startswith("replaced.zarr/") for key in paths.list_keys(f"{s3}/swap"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_failure_leaves_nothing_new(s3, metadata, overwrite):
    path = f"{s3}/failed_{overwrite}.zarr"
    if overwrite:
        write(path, metadata, 1.0)
    with pytest.raises(ZeroDivisionError), create_acquisition(path, metadata, 3, False, overwrite):
        raise ZeroDivisionError
    assert paths.exists(path) == overwrite
    if overwrite:
        assert (open_acquisition(path).measurements(0, 3) == 1).all()


def test_attempt_that_died_is_replaced(s3, metadata):
    path = f"{s3}/died.zarr"
    create_acquisition(path, metadata, 9, with_reference=True)  # and never anything more
    write(path, metadata, 4.0)
    assert not open_acquisition(path).has_reference


def test_other_peoples_objects_are_not_replaced(s3, metadata):
    paths.write_bytes(f"{s3}/photographs", "cat.jpg", b"cat")
    with pytest.raises(InputError, match="not a store written by ddip-ray"):
        write(f"{s3}/photographs", metadata, 1.0, overwrite=True)
    assert paths.list_keys(f"{s3}/photographs") == ["cat.jpg"]


def test_result(s3, rng):
    volume = rng.random((6, 40, 40), dtype=np.float32)
    path = f"{s3}/out.zarr"
    handle = create_result(path, volume.shape, (1.0, 1.0, 1.0), 2, coarsest=32)
    for start in (0, 2, 4):
        handle.write_slab(start, volume[start : start + 2])
    handle.store_file("adapter.safetensors", b"weights")
    assert handle.finalise({"seed": 1}).num_levels == 2
    np.testing.assert_array_equal(open_result(path).read(1, 5), volume[1:5])
    assert load_file(path, "adapter.safetensors") == b"weights"
    image = open_image(path)
    np.testing.assert_array_equal(image.array[2:4].compute(), volume[2:4])


def test_missing_store_and_bucket(s3):
    with pytest.raises(InputError, match="no such store"):
        open_acquisition(f"{s3}/absent.zarr")
    with pytest.raises(InputError, match="no such bucket"):
        open_acquisition("s3://absent-bucket/vol.zarr")


@pytest.mark.parametrize("path", ["s3://bucket/vol.zarr", "http://127.0.0.1:1/vol.zarr"])
def test_unreachable(s3, monkeypatch, path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nobody listens on port 1
    monkeypatch.setitem(paths.RETRIES, "max_retries", 1)
    with pytest.raises(InputError, match="the store cannot be reached"):
        open_acquisition(path)


def test_wrong_credentials(s3, monkeypatch):
    def refuse(_):
        raise ValueError('PERMISSION_DENIED: Error reading "zarr.json"')

    monkeypatch.setattr(paths, "open_kvstore", refuse)
    with pytest.raises(InputError, match=r"access denied\. Check permissions and credentials"):
        open_acquisition(f"{s3}/vol.zarr")


def test_readable_over_http(tmp_path, metadata):
    write(tmp_path / "vol.zarr", metadata, 5.0)
    handle = create_result(tmp_path / "out.zarr", (2, 8, 8), (1.0, 1.0, 1.0), 2)
    handle.write_slab(0, np.ones((2, 8, 8)))
    handle.finalise({})

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        assert (open_acquisition(f"{base}/vol.zarr").measurements(0, 3) == 5).all()
        assert (open_image(f"{base}/out.zarr").array.compute() == 1).all()
        with pytest.raises(InputError, match="no such store"):
            open_acquisition(f"{base}/absent.zarr")
        with pytest.raises(InputError, match="the web can only be read"):
            write(f"{base}/new.zarr", metadata, 1.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Paths


@pytest.mark.parametrize("path", ["s3://bucket", "s3://bucket/", "gs://bucket"])
def test_a_bucket_is_not_a_store(path):
    with pytest.raises(InputError, match="needs a bucket and a name in it"):
        open_acquisition(path)


def test_unknown_scheme():
    with pytest.raises(InputError, match="cannot open ftp:// paths"):
        open_acquisition("ftp://host/vol.zarr")


def test_specs(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    gcs = paths.kvstore_spec("gs://b/k/v.zarr")
    assert (gcs["driver"], gcs["bucket"], gcs["path"]) == ("gcs", "b", "k/v.zarr/")
    s3 = paths.kvstore_spec("s3://b/v.zarr/")
    assert (s3["bucket"], s3["path"], s3["aws_region"]) == ("b", "v.zarr/", "us-east-1")
    assert "endpoint" not in s3
    assert paths.kvstore_spec("file:///tmp/a%20b.zarr") == {"driver": "file", "path": "/tmp/a b.zarr/"}


def test_list_keys_of_a_prefix(tmp_path):
    for key in ("c/0/0", "c/1/0", "d/0", "zarr.json"):
        paths.write_bytes(tmp_path, key, b"x")
    assert paths.list_keys(tmp_path, "c/") == ["c/0/0", "c/1/0"]
    assert arrays.ROOT_KEY in paths.list_keys(tmp_path)
