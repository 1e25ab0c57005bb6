"""What a snapshot consists of, on a disk and in an object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddip_ray.io import paths
from ddip_ray.io.stores.schema import Frozen
from ddip_ray.io.stores.snapshot_files import (
    DamagedSnapshot,
    delete_all_but,
    read_array,
    read_documents,
    write_array,
    write_document,
)


class Document(Frozen):
    number: int


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out.zarr.snapshots")
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}/out.zarr.snapshots"


def test_arrays_come_back(folder: str) -> None:
    for k, array in enumerate(
        (np.arange(6.0).reshape(2, 3)[:, ::2], np.array([1 + 2j], np.complex64), np.zeros((0, 4)))
    ):
        stored = write_array(folder, f"step-1/{k}.npy", array)
        found = read_array(folder, stored)
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_damage_is_found(folder: str) -> None:
    stored = write_array(folder, "step-1/x.npy", np.arange(4))
    paths.write_bytes(folder, stored.key, (paths.read_bytes(folder, stored.key) or b"")[:-1])
    with pytest.raises(DamagedSnapshot, match=r"step-1/x\.npy: not what was written"):
        read_array(folder, stored)
    paths.delete_tree(paths.join(folder, "step-1"))
    with pytest.raises(DamagedSnapshot, match="missing"):
        read_array(folder, stored)


def test_documents_the_last_first(folder: str) -> None:
    assert read_documents(folder, Document) == []
    for number in (1, 2, 10):
        write_document(folder, f"step-{number:06d}", Document(number=number))
    paths.write_bytes(folder, "step-000011.json", b'{"number": ')
    paths.write_bytes(folder, "step-000012.json", b'{"other": 3}')
    assert [document.number for document in read_documents(folder, Document)] == [10, 2, 1]


def test_all_but_some_are_deleted(folder: str) -> None:
    delete_all_but(folder, set())  # nothing there
    for name in ("a", "b", "c"):
        write_array(folder, f"{name}/x.npy", np.zeros(2))
        if name != "c":  # never published
            write_document(folder, name, Document(number=1))
    delete_all_but(folder, {"b"})
    assert paths.list_keys(folder) == ["b.json", "b/x.npy"]
