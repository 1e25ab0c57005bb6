"""The parallel-beam projector: contract, closed forms, conventions, bits."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddip_ray.errors import InputError
from ddip_ray.operators import LinearOperator, ParallelBeam, ParallelBeamGeometry
from ddip_ray.operators.ct.parallel_beam import Backend
from ddip_ray.testing import OperatorContract, assert_adjoint, dense_matrix, randn

BACKENDS: tuple[Backend, ...] = ("cpu_kernel", "sparse", "streamed")


def half_turn(num_views: int) -> tuple[float, ...]:
    return tuple(np.arange(num_views) * np.pi / num_views)


GEOMETRIES = {
    "plain": ParallelBeamGeometry.centered((6, 6), half_turn(5), 9),
    "not_square": ParallelBeamGeometry.centered((4, 7), half_turn(4), 10),
    "off_center": replace(ParallelBeamGeometry.centered((6, 6), half_turn(5), 9), rotation_center=2.3),
    "odd_angles": ParallelBeamGeometry.centered((5, 6), (0.1, 3.0, -7.5, math.pi / 4, math.pi / 2, 0.1), 8),
    "coarse_detector": ParallelBeamGeometry.centered((6, 5), half_turn(5), 4, 0.7, 1.9),
    "fine_detector": ParallelBeamGeometry.centered((4, 4), half_turn(3), 16, 1.3, 0.4),
    "one_pixel": ParallelBeamGeometry.centered((1, 1), (0.3,), 1),
}


@pytest.fixture
def thread_count_restored():
    """Restore torch's thread count after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class ParallelBeamContract(OperatorContract):
    exact = True

    @pytest.fixture(params=[(g, b) for g in GEOMETRIES for b in BACKENDS], ids="-".join)
    def operator(self, request: pytest.FixtureRequest) -> LinearOperator:
        geometry, backend = request.param
        return ParallelBeam(GEOMETRIES[geometry], dtype=self.dtype, backend=backend)


class TestParallelBeamDouble(ParallelBeamContract):
    pass


class TestParallelBeamSingle(ParallelBeamContract):
    dtype = torch.float32
    tol = 1e-5


# --- values ---------------------------------------------------------------------------------


def joseph_by_definition(geometry: ParallelBeamGeometry) -> Tensor:
    """Joseph's matrix by walking along each ray, in slow Python: (ray, pixel)."""
    (ny, nx), size = geometry.image_shape, geometry.pixel_size
    matrix = torch.zeros(geometry.num_views, geometry.num_detectors, ny, nx, dtype=torch.float64)
    for v, angle in enumerate(geometry.angles):
        cos, sin = math.cos(angle), math.sin(angle)
        walk_rows = abs(cos) >= abs(sin)
        for k in range(geometry.num_detectors):
            s = (k - geometry.rotation_center) * geometry.detector_spacing
            for step in range(ny if walk_rows else nx):
                if walk_rows:
                    y = ((ny - 1) / 2 - step) * size
                    position = (s - y * sin) / cos / size + (nx - 1) / 2
                else:
                    x = (step - (nx - 1) / 2) * size
                    position = (ny - 1) / 2 - (s - x * cos) / sin / size
                for pixel in (math.floor(position), math.floor(position) + 1):
                    weight = size / max(abs(cos), abs(sin)) * (1 - abs(position - pixel))
                    if 0 <= pixel < (nx if walk_rows else ny):
                        row, column = (step, pixel) if walk_rows else (pixel, step)
                        matrix[v, k, row, column] += weight
    return matrix.reshape(geometry.num_views * geometry.num_detectors, ny * nx)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_matches_the_definition(name: str, backend: Backend) -> None:
    operator = ParallelBeam(GEOMETRIES[name], dtype=torch.float64, backend=backend)
    expected = joseph_by_definition(GEOMETRIES[name])
    assert torch.allclose(dense_matrix(operator, torch.float64), expected, rtol=0, atol=1e-10)


@st.composite
def geometries(draw: st.DrawFn) -> ParallelBeamGeometry:
    num_views = draw(st.integers(1, 4))
    return ParallelBeamGeometry(
        image_shape=(draw(st.integers(1, 6)), draw(st.integers(1, 6))),
        angles=tuple(draw(st.lists(st.floats(-10, 10), min_size=num_views, max_size=num_views))),
        num_detectors=draw(st.integers(1, 9)),
        pixel_size=draw(st.floats(0.1, 3)),
        detector_spacing=draw(st.floats(0.1, 3)),
        rotation_center=draw(st.floats(-3, 12)),
    )


@settings(max_examples=150, deadline=None)
@given(geometries())
def test_any_geometry_matches_the_definition(geometry: ParallelBeamGeometry) -> None:
    operator = ParallelBeam(geometry, dtype=torch.float64)
    # 1e-7: at 45° a rounding error may choose the other walk, a different (equally good) sum.
    degrees = np.degrees(geometry.angles) % 90
    if np.abs(degrees - 45).min() > 1e-6:
        expected = joseph_by_definition(geometry)
        assert torch.allclose(dense_matrix(operator, torch.float64), expected, rtol=0, atol=1e-7)
    assert_adjoint(operator, torch.float64, 1e-10)
    assert_adjoint(ParallelBeam(geometry, dtype=torch.float64, backend="streamed"), torch.float64, 1e-10)


# (center x, center y, semi-axis, semi-axis, rotation, value); y points up
ELLIPSES = [
    (0.0, 0.0, 24.0, 24.0, 0.0, 1.0),
    (14.0, -9.0, 12.0, 12.0, 0.0, 0.7),
    (-8.0, 11.0, 20.0, 9.0, 0.5, 1.3),
    (5.0, 6.0, 7.0, 28.0, -1.1, -0.4),
]


def ellipse_image(
    ellipse: tuple[float, ...], geometry: ParallelBeamGeometry, oversampling: int = 8
) -> Tensor:
    """Pixel averages of an ellipse, (y, x)."""
    x0, y0, a, b, rotation, value = ellipse
    (ny, nx), n = geometry.image_shape, oversampling
    sub = (np.arange(n) + 0.5) / n - 0.5
    x = ((np.arange(nx)[:, None] + sub).reshape(-1) - (nx - 1) / 2) * geometry.pixel_size - x0
    y = ((ny - 1) / 2 - (np.arange(ny)[:, None] + sub).reshape(-1)) * geometry.pixel_size - y0
    u = x[None, :] * np.cos(rotation) + y[:, None] * np.sin(rotation)
    v = -x[None, :] * np.sin(rotation) + y[:, None] * np.cos(rotation)
    inside = (u / a) ** 2 + (v / b) ** 2 <= 1
    return torch.from_numpy(value * inside.reshape(ny, n, nx, n).mean(axis=(1, 3)))


def ellipse_sinogram(ellipse: tuple[float, ...], geometry: ParallelBeamGeometry) -> Tensor:
    """Closed-form line integrals of an ellipse, (view, detector)."""
    x0, y0, a, b, rotation, value = ellipse
    angles = np.asarray(geometry.angles)[:, None]
    s = (np.arange(geometry.num_detectors) - geometry.rotation_center) * geometry.detector_spacing
    s = s[None, :] - x0 * np.cos(angles) - y0 * np.sin(angles)
    width2 = (a * np.cos(angles - rotation)) ** 2 + (b * np.sin(angles - rotation)) ** 2
    return torch.from_numpy(value * 2 * a * b * np.sqrt(np.clip(width2 - s**2, 0, None)) / width2)


@pytest.mark.parametrize("ellipse", ELLIPSES)
@pytest.mark.parametrize("pixel_size", [0.5, 1.0])
def test_line_integrals_of_ellipses(ellipse: tuple[float, ...], pixel_size: float) -> None:
    n = int(72 / pixel_size)
    geometry = ParallelBeamGeometry((n, n + 6), half_turn(18), 90, pixel_size, 1.0, 41.7)
    expected = ellipse_sinogram(ellipse, geometry)
    got = ParallelBeam(geometry, dtype=torch.float64).forward(ellipse_image(ellipse, geometry)[None])[0]
    error = (got - expected).norm() / expected.norm()
    # Pixels blur the rim of the ellipse, where the chord has infinite slope: 2 % of the norm at a
    # pixel of 1 for these ellipses of 7 to 28, half of that at half the pixel.
    assert error < 0.025 * pixel_size
    _, _, a, b, _, value = ellipse
    mass = got.sum(1) * geometry.detector_spacing  # the same in each view
    assert (mass / (value * math.pi * a * b) - 1).abs().max() < 3e-3


def test_orientation_and_values_against_scikit_image() -> None:
    """Odd size: the conventions coincide as they are. The image has no symmetry."""
    transform = pytest.importorskip("skimage.transform")
    n, degrees = 63, np.arange(0, 180, 7.5)
    geometry = ParallelBeamGeometry.centered((n, n), np.radians(degrees), n)
    image = sum(
        ellipse_image(e, geometry)
        for e in [(6.0, 12.0, 5.0, 3.0, 0.4, 1.0), (-9.0, -5.0, 8.0, 4.0, 1.2, 0.5)]
    )
    theirs = torch.from_numpy(transform.radon(image.numpy(), degrees, circle=True).T)
    ours = ParallelBeam(geometry, dtype=torch.float64).forward(image[None])[0]
    assert (ours - theirs).norm() / theirs.norm() < 0.02
    flipped = ParallelBeam(geometry, dtype=torch.float64).forward(image.flip(0)[None])[0]
    assert (flipped - theirs).norm() / theirs.norm() > 0.5  # the comparison would notice


def test_even_size_is_scikit_image_shifted_by_half_a_pixel() -> None:
    transform = pytest.importorskip("skimage.transform")
    n, degrees = 64, np.arange(0, 180, 7.5)
    geometry = ParallelBeamGeometry.centered((n, n), np.radians(degrees), n)
    image = ellipse_image((6.0, 12.0, 5.0, 3.0, 0.4, 1.0), geometry)
    theirs = torch.from_numpy(transform.radon(image.numpy(), degrees, circle=True).T)
    # Their axis passes through pixel (32, 32), ours through (31.5, 31.5): a row and a column of
    # zeros move our centre onto theirs.
    padded = torch.nn.functional.pad(image, (0, 1, 0, 1))
    ours = ParallelBeam(
        replace(geometry, image_shape=(n + 1, n + 1), rotation_center=n // 2), dtype=torch.float64
    ).forward(padded[None])[0]
    assert (ours - theirs).norm() / theirs.norm() < 0.02


def test_lengths_have_units() -> None:
    """The same scan in another unit of length: integrals scale with it."""
    geometry = GEOMETRIES["off_center"]
    x = randn((2, *geometry.image_shape), torch.float64)
    scaled = replace(geometry, pixel_size=3.0, detector_spacing=3.0)
    assert torch.allclose(
        ParallelBeam(scaled, dtype=torch.float64).forward(x),
        3 * ParallelBeam(geometry, dtype=torch.float64).forward(x),
    )


# --- bits -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("thread_count_restored")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spacing", [0.45, 1.0])
def test_bits_do_not_depend_on_batch_place_layout_or_threads(dtype: torch.dtype, spacing: float) -> None:
    geometry = ParallelBeamGeometry.centered((37, 29), half_turn(11), 53, 1.0, spacing)
    operator = ParallelBeam(geometry, dtype=dtype)
    x = randn((113, 37, 29), dtype)
    torch.set_num_threads(1)
    y = operator.forward(x)
    back = operator.adjoint(y)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        for size in (1, 3, 8, 16, 17, 33, 56, 113):
            for start in (0, 57, 113 - size):
                part = slice(start, start + size)
                assert torch.equal(operator.forward(x[part]), y[part])
                assert torch.equal(operator.adjoint(y[part].contiguous()), back[part])


def test_concurrent_calls_from_python_threads() -> None:
    operator = ParallelBeam(ParallelBeamGeometry.centered((40, 40), half_turn(12), 57))
    xs = [randn((5, 40, 40), torch.float32, seed) for seed in range(8)]
    expected = [operator.forward(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(operator.forward, xs), expected, strict=True):
                assert torch.equal(got, want)


def test_works_in_a_forked_child() -> None:
    """Use, fork, use again: no pool, lock or OpenMP state of the parent may hang the child."""
    code = """
import os, torch, warnings
warnings.simplefilter("ignore")  # Python warns of forking with threads: that is the point here
from ddip_ray.operators import ParallelBeam, ParallelBeamGeometry
torch.set_num_threads(2)
operator = ParallelBeam(ParallelBeamGeometry.centered((32, 32), (0.1, 1.0, 2.0), 45))
x = torch.arange(1024.0).reshape(1, 32, 32)
y = operator.forward(x)
pid = os.fork()
if pid == 0:
    os._exit(0 if torch.equal(operator.forward(x), y) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], timeout=120, check=False, env=os.environ).returncode == 0
    )


# --- layout, back-ends, errors --------------------------------------------------------------


def test_results_are_slice_innermost_in_memory() -> None:
    operator = ParallelBeam(GEOMETRIES["not_square"])
    y = operator.forward(randn((3, 4, 7), torch.float32))
    assert y.permute(1, 2, 0).is_contiguous()
    assert operator.adjoint(y).permute(1, 2, 0).is_contiguous()


def test_backend_is_chosen_and_visible() -> None:
    geometry = GEOMETRIES["plain"]
    assert ParallelBeam(geometry).backend == "cpu_kernel"
    for backend in BACKENDS:
        assert ParallelBeam(geometry, backend=backend).backend == backend


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_matrices_built_in_blocks_are_the_same(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = GEOMETRIES["odd_angles"]
    whole = ParallelBeam(geometry, dtype=torch.float64, backend=backend)
    x = randn((2, *geometry.image_shape), torch.float64)
    y = whole.forward(x)
    monkeypatch.setattr("ddip_ray.operators.ct.parallel_beam._BUILD_BYTES", 1)  # one view, one row at a time
    pieces = ParallelBeam(geometry, dtype=torch.float64, backend=backend)
    assert torch.allclose(pieces.forward(x), y, rtol=0, atol=1e-12)
    assert torch.allclose(pieces.adjoint(y), whole.adjoint(y), rtol=0, atol=1e-12)


def test_pickle_is_small() -> None:
    operator = ParallelBeam(GEOMETRIES["plain"], backend="sparse")
    operator.forward(torch.zeros(1, 6, 6))
    assert len(pickle.dumps(operator)) < 2000


def test_geometry_is_a_value() -> None:
    geometry = ParallelBeamGeometry.centered((6, 6), np.linspace(0, 1, 5), 9)
    assert geometry == ParallelBeamGeometry.centered((6, 6), tuple(np.linspace(0, 1, 5)), 9)
    assert hash(geometry) == hash(replace(geometry))
    assert geometry.num_views == 5
    with pytest.raises(FrozenInstanceError):
        geometry.pixel_size = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_size": 0.0}, "pixel_size is 0.0"),
        ({"detector_spacing": math.nan}, "detector_spacing is nan"),
        ({"angles": ()}, "number of angles is 0"),
        ({"angles": (0.0, math.inf)}, r"views \[1\] are not finite"),
        ({"num_detectors": 0}, "num_detectors is 0"),
        ({"image_shape": (0, 4)}, r"image_shape\[0\] is 0"),
        ({"rotation_center": math.inf}, "rotation_center is inf"),
    ],
)
def test_bad_geometry_names_the_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(GEOMETRIES["plain"], **change)


def test_wrong_dtype_and_arguments_are_refused() -> None:
    geometry = GEOMETRIES["plain"]
    with pytest.raises(ValueError, match=r"forward.*float32.*float64"):
        ParallelBeam(geometry).forward(torch.zeros(1, 6, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"dtype is torch\.float16"):
        ParallelBeam(geometry, dtype=torch.float16)
    with pytest.raises(ValueError, match="backend is 'fast'"):
        ParallelBeam(geometry, backend="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cpu_kernel runs on the CPU"):
        ParallelBeam(geometry, device="cuda", backend="cpu_kernel")
