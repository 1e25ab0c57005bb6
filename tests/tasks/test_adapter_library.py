"""Versions of adapters that many drivers add to at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from torch import nn

from ddip_ray.adaptation.lora import Adapter, LoraConfig
from ddip_ray.errors import InputError
from ddip_ray.tasks.cohort.adapter_library import AdapterLibrary, require_tag


def adapter() -> bytes:
    return Adapter.create(nn.Sequential(nn.Conv2d(2, 6, 3)), LoraConfig(2), seed=0).to_bytes("p")


def test_every_volume_is_in_the_last_version_once(tmp_path: Path) -> None:
    library = AdapterLibrary(tmp_path / "adapters")
    assert library.latest("siemens-3t") is None
    names = [f"v{k}" for k in range(8)]
    threads = [
        threading.Thread(target=library.add, args=("siemens-3t", adapter(), name)) for name in [*names, "v0"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = library.latest("siemens-3t")
    assert last is not None
    assert last.name == "000008.safetensors"
    assert sorted(library.volumes(last)) == names
    assert library.latest("other") is None
    assert sorted(path.name for path in last.parent.iterdir()) == [
        f"{k:06d}.safetensors" for k in range(1, 9)
    ]


@pytest.mark.parametrize("tag", ["", "..", "a/b", "-x", "ü"])
def test_a_tag_names_a_folder(tag: str) -> None:
    with pytest.raises(InputError, match="tag"):
        require_tag(tag)
