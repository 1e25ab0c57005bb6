"""Judging results: the right reference, the right units, one data range."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddip_ray.errors import InputError
from ddip_ray.io.stores.acquisition import open_acquisition
from ddip_ray.io.stores.result import create_result
from ddip_ray.io.stores.schema import Intensity
from ddip_ray.tasks.judge.evaluate import evaluate
from ddip_ray.tasks.judge.montage import direct, montage
from ddip_ray.tasks.judge.scores import Image as Array

WriteResult = Callable[..., str]


@pytest.fixture
def write_result(small_scan: Path) -> WriteResult:
    """Publish a normalised volume as a result of `small_scan`, in units of 100 + 50 x."""

    def write(x: Array, name: str = "out.zarr", unit: str = "HU", method: str = "cg") -> str:
        acquisition = open_acquisition(small_scan)
        intensity = Intensity(offset=100, scale=50, unit=unit)
        recorded = {
            **acquisition.metadata.model_dump(mode="json"),
            "path": acquisition.path,
            "intensity": intensity.model_dump(mode="json"),
        }
        path = str(small_scan.parent / name)
        handle = create_result(path, x.shape, (1.0, 1.0, 1.0), 1, unit=unit)
        handle.write_slab(0, 100 + 50 * x)
        handle.finalise({"method": method, "acquisition": recorded})
        return path

    return write


@pytest.fixture
def reference(small_scan: Path) -> Array:
    store = open_acquisition(small_scan)
    return store.reference(0, store.num_slices)


def test_perfect_result(write_result: WriteResult, reference: Array) -> None:
    found = evaluate(write_result(reference))
    assert found.psnr > 120  # the detour over original units rounds
    assert found.ssim == pytest.approx(1.0, abs=1e-6)
    assert found.residual is not None
    assert found.residual < 1e-5
    assert found.data_range_original == 50
    assert found.unit == "HU"


def test_known_error(write_result: WriteResult, reference: Array) -> None:
    path = write_result(reference + 0.1)
    assert evaluate(path).psnr == pytest.approx(20.0, abs=1e-3)
    assert evaluate(path, data_range=0.1).psnr == pytest.approx(0.0, abs=1e-3)
    for plane in evaluate(path).planes.values():
        assert plane.psnr == pytest.approx(20.0, abs=1e-3)


def test_against_another_result(write_result: WriteResult, reference: Array) -> None:
    better, worse = write_result(reference, "a.zarr"), write_result(reference + 0.01, "b.zarr")
    assert evaluate(worse, better).psnr == pytest.approx(40.0, abs=1e-2)
    in_percent = write_result(reference, "c.zarr", unit="%")
    with pytest.raises(InputError, match="values in %"):
        evaluate(worse, in_percent)


def test_acquisition_is_found_beside_the_result(
    write_result: WriteResult, reference: Array, small_scan: Path
) -> None:
    path = write_result(reference)
    moved = small_scan.parent.with_name("moved")
    small_scan.parent.rename(moved)
    path = str(moved / Path(path).name)
    assert evaluate(path).reference == str(moved / small_scan.name)
    shutil.rmtree(moved / small_scan.name)
    with pytest.raises(InputError, match="neither where it was nor beside it"):
        evaluate(path)


def test_bad_comparisons(write_result: WriteResult, reference: Array, small_scan: Path) -> None:
    path = write_result(reference[:, :10])
    with pytest.raises(InputError, match="shape"):
        evaluate(path)
    with pytest.raises(InputError, match="`data_range`"):
        evaluate(path, data_range=0)
    with pytest.raises(InputError, match="not a result"):
        evaluate(str(small_scan))


def test_circle(write_result: WriteResult, reference: Array) -> None:
    noisy = reference.copy()
    noisy[:, 0, 0] += 1  # a corner
    path = write_result(noisy)
    assert evaluate(path).psnr < 40
    assert evaluate(path, circle=True).psnr > 120


def test_direction_looks_like_the_object(small_scan: Path, reference: Array) -> None:
    error = direct(open_acquisition(small_scan)) - reference
    assert math.sqrt(float((error**2).mean())) < 0.1


def _pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_montage(write_result: WriteResult, reference: Array) -> None:
    path = write_result(np.clip(reference + 0.05, 0, 1))
    picture = _pixels(montage(path))
    height, width, _ = picture.shape
    assert width > height
    assert picture.max() > 180
    # reference and result stand in columns of equal width, so a second result widens the picture
    wider = _pixels(montage(path, compare=[path, path]))
    assert wider.shape[1] > width


def test_montage_of_a_measured_scan_has_no_error_column(
    write_result: WriteResult, reference: Array, small_scan: Path
) -> None:
    path = write_result(reference)
    full = _pixels(montage(path)).shape[1]
    shutil.rmtree(small_scan)
    assert _pixels(montage(path)).shape[1] < full / 2
    assert _pixels(montage(path, reference=path)).shape[1] > full / 2


def test_montage_of_a_thin_volume(tmp_path: Path, small_image: Path) -> None:
    from ddip_ray.config.settings import RunConfig
    from ddip_ray.engine.run import reconstruct
    from ddip_ray.tasks.acquire.simulate_ct import Scan, simulate

    store, output = str(tmp_path / "thin.zarr"), str(tmp_path / "out.zarr")
    simulate(str(small_image), store, Scan(num_views=8, slices="5:7"))
    reconstruct(store, output, RunConfig(method="fbp"), num_workers=1)
    assert _pixels(montage(output)).ndim == 3
    assert evaluate(output).ssim is None
