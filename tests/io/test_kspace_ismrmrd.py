"""ISMRMRD files written by their own library: the same k-space comes back, in whatever order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from ddip_ray.errors import InputError
from ddip_ray.io.kspace.open import read_kspace
from ddip_ray.io.kspace.raw import centred, stack_order

Array = np.ndarray[Any, np.dtype[np.complex64]]


def header(nx: int, ny: int, nz: int, recon_x: int, centre_y: int, trajectory: str = "cartesian") -> str:
    space = "<{0}><matrixSize><x>{1}</x><y>{2}</y><z>{3}</z></matrixSize><fieldOfView_mm><x>{4}</x><y>{5}</y>"
    space += "<z>{6}</z></fieldOfView_mm></{0}>"
    encoded = space.format("encodedSpace", nx, ny, nz, 2.0 * nx, 1.5 * ny, 3.0 * nz)
    recon = space.format("reconSpace", recon_x, ny, nz, 2.0 * recon_x, 1.5 * ny, 3.0 * nz)
    limit = "<kspace_encoding_step_1><minimum>0</minimum><maximum>{0}</maximum><center>{1}</center>"
    limits = (limit + "</kspace_encoding_step_1>").format(ny - 1, centre_y)
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{encoded}{recon}<encodingLimits>{limits}</encodingLimits>"
        f"<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"
    )


def line(samples: Array, flag: int | None = None, centre: int | None = None, **counters: int) -> Any:
    """An acquisition of (coil, sample)."""
    acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples))
    acquisition.center_sample = samples.shape[1] // 2 if centre is None else centre
    for name, value in counters.items():
        setattr(acquisition.idx, name, value)
    if flag is not None:
        acquisition.setFlag(flag)
    return acquisition


def write(path: Path, xml: str, lines: list[Any]) -> Path:
    with ismrmrd.Dataset(str(path), "dataset") as dataset:
        dataset.write_xml_header(xml.encode())
        for acquisition in lines:
            dataset.append_acquisition(acquisition)
    return path


def random(*shape: int) -> Array:
    rng = np.random.default_rng(0)
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


def oversampled(k: Array) -> Array:
    """k-space of twice the field of view along the last axis, with nothing in the outer half."""
    image, n = centred(np.fft.ifft, k, k.ndim - 1), k.shape[-1]
    padded = np.pad(image, [*[(0, 0)] * (k.ndim - 1), (n // 2, n - n // 2)])
    return centred(np.fft.fft, padded, k.ndim - 1).astype(np.complex64)


def test_slices_with_noise_calibration_averages_and_oversampling(tmp_path: Path) -> None:
    k = random(2, 3, 10, 12)  # slice, coil, ky, kx
    wide = oversampled(k)
    noise = line(random(3, 64), ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    lines = [noise, line(9 * wide[0, :, 4], ismrmrd.ACQ_IS_PARALLEL_CALIBRATION, kspace_encode_step_1=4)]
    lines.append(line(7 * wide[0, :, 1], ismrmrd.ACQ_IS_NAVIGATION_DATA, kspace_encode_step_1=1))
    order = np.random.default_rng(1).permutation(20)
    for z, row in zip(*np.divmod(order, 10), strict=True):
        if row == 3:
            continue  # not taken
        for average in (0, 1):
            samples = wide[z, :, row] * (0.5 + average)  # whose mean is what it should be
            counters = {"slice": int(z), "kspace_encode_step_1": int(row), "average": average}
            lines.append(line(samples, **counters))
    lines.append(line(5 * wide[0, :, 2], kspace_encode_step_1=2, repetition=1))
    raw = read_kspace(write(tmp_path / "scan.h5", header(24, 10, 1, 12, 5), lines))
    expected = k.copy()
    expected[:, :, 3] = 0
    np.testing.assert_allclose(raw.data.compute(), expected, atol=1e-5)
    assert raw.format == "ISMRMRD"
    assert raw.voxel_mm == (3.0, 1.5, 2.0)
    assert raw.history == ("repetition 0 of 2", "readout oversampling removed: 12 of 24 kept")
    assert raw.noise is not None
    np.testing.assert_array_equal(raw.noise, noise.data)


def test_partial_echoes_and_an_uncentred_matrix_land_where_they_belong(tmp_path: Path) -> None:
    k = random(1, 2, 8, 10)
    k[..., :3] = 0  # an echo that begins late
    k[:, :, 7] = 0  # the step 8, at which row 7 would be, was not taken
    lines = [line(k[0, :, row, 3:], centre=2, kspace_encode_step_1=row + 1) for row in range(7)]
    raw = read_kspace(write(tmp_path / "scan.h5", header(10, 8, 1, 10, 5), lines))
    np.testing.assert_allclose(raw.data.compute(), k, atol=1e-6)


def test_a_partial_echo_with_oversampling_stays_partial(tmp_path: Path) -> None:
    k = oversampled(random(1, 2, 8, 10))
    lines = [line(k[0, :, row, 6:], centre=4, kspace_encode_step_1=row) for row in range(8)]
    y = read_kspace(write(tmp_path / "scan.h5", header(20, 8, 1, 10, 4), lines)).data.compute()
    assert not y[..., :3].any()
    assert (y[..., 3:] != 0).all()


def test_slices_lie_in_the_order_of_their_positions(tmp_path: Path) -> None:
    """Taken interleaved, counted with gaps; another encoding of the same lines is left out."""
    k = random(4, 2, 6, 8)
    places = [2, 0, 3, 1]  # of the counters 0 to 3
    lines = []
    for counter, place in enumerate(places):
        for row in range(6):
            acquisition = line(k[place, :, row], kspace_encode_step_1=row, slice=2 * counter + 1)
            acquisition.position[:] = (0.0, 1.0, 7.5 * place - 10.0)
            lines.append(acquisition)
    lines.append(line(9 * k[0, :, 0], kspace_encode_step_1=0))
    lines[-1].encoding_space_ref = 1
    raw = read_kspace(write(tmp_path / "scan.h5", header(8, 6, 1, 8, 3), lines))
    np.testing.assert_allclose(raw.data.compute(), k, atol=1e-6)
    assert raw.voxel_mm == pytest.approx((7.5, 1.5, 2.0))


def test_slices_without_positions_of_their_own_keep_their_order() -> None:
    for positions in (np.zeros((3, 3)), np.ones((1, 3)), np.array([[0.0, 0, 0], [0, 0, 2], [0, 0, 0]])):
        order, distance = stack_order(positions)
        assert order.tolist() == list(range(len(positions)))
        assert distance is None


def test_a_3d_scan_becomes_slices_along_its_readout(tmp_path: Path) -> None:
    k = random(2, 4, 6, 8)  # coil, kz, ky, kx
    wide = oversampled(k)
    lines = [
        line(wide[:, plane, row], kspace_encode_step_1=row, kspace_encode_step_2=plane)
        for plane in range(4)
        for row in range(6)
    ]
    raw = read_kspace(write(tmp_path / "scan.h5", header(16, 6, 4, 8, 3), lines))
    expected = np.moveaxis(centred(np.fft.ifft, k, 3), 3, 0)  # x, coil, kz, ky
    np.testing.assert_allclose(raw.data.compute(), expected, atol=1e-5)
    assert raw.voxel_mm == (2.0, 3.0, 1.5)


def rotation() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read, phase and slice direction of an oblique coronal scan, a row each."""
    tilt, turn = 0.3, 0.2
    read = np.array([np.cos(turn), np.sin(turn), 0])
    phase = np.cross([-np.sin(tilt) * np.sin(turn), np.sin(tilt) * np.cos(turn), np.cos(tilt)], read)
    phase = np.cross(read, phase)
    return np.stack([read, phase / np.linalg.norm(phase), np.cross(read, phase / np.linalg.norm(phase))])


def place(acquisition: Any, directions: Any, position: Any) -> Any:
    for name, direction in zip(("read_dir", "phase_dir", "slice_dir"), directions, strict=True):
        getattr(acquisition, name)[:] = direction
    acquisition.position[:] = position
    return acquisition


def point_at(orientation: Any, image: Array) -> Any:
    """Where in the scanner (Left, Posterior, Superior) the brightest voxel lies."""
    z, y, x = np.unravel_index(np.argmax(np.abs(image)), image.shape)
    return np.array([-1, -1, 1]) * (np.array(orientation.affine) @ [x, y, z, 1])[:3]


def test_a_point_lies_where_it_was_in_the_scanner(tmp_path: Path) -> None:
    """A point source at a voxel's centre, its signal by the definition of the gradients."""
    directions, centre = rotation(), np.array([12.0, -30.0, 45.0])
    r = centre + directions.T @ np.array([3 * 2.0, -2 * 1.5, 2 * 3.0])  # voxels of 2 x 1.5 x 3 mm
    kx, ky = (np.arange(n) - n // 2 for n in (8, 6))
    along = directions @ (r - centre)
    phase = kx[None] / 16.0 * along[0] + ky[:, None] / 9.0 * along[1]
    k = np.exp(-2j * np.pi * phase).astype(np.complex64)
    lines = []
    for z, offset in enumerate((-3.0, 0.0, 3.0, 6.0, 9.0)):
        strength = 1.0 if offset == 6 else 0.1
        for row in range(6):
            acquisition = line(strength * k[None, row], kspace_encode_step_1=row, slice=z)
            lines.append(place(acquisition, directions, centre + offset * directions[2]))
    raw = read_kspace(write(tmp_path / "scan.h5", header(8, 6, 1, 8, 3), lines))
    image = centred(np.fft.ifft, centred(np.fft.ifft, raw.data.compute()[:, 0], 1), 2)
    np.testing.assert_allclose(point_at(raw.orientation, image), r, atol=1e-4)
    assert raw.orientation.directions == "PSL"
    assert point_at(raw.orientation.from_slice(1), image[1:]) == pytest.approx(r, abs=1e-4)


def test_a_point_in_a_3d_scan(tmp_path: Path) -> None:
    directions, centre = rotation(), np.array([5.0, 6.0, -7.0])
    along = np.array([-2 * 2.0, 1 * 1.5, -1 * 3.0])
    kx, ky, kz = (np.arange(n) - n // 2 for n in (16, 6, 4))  # twice the field of view along x
    phase = kx / 32.0 * along[0] + ky[:, None] / 9.0 * along[1] + kz[:, None, None] / 12.0 * along[2]
    k = np.exp(-2j * np.pi * phase).astype(np.complex64)
    lines = [
        place(
            line(k[None, plane, row], kspace_encode_step_1=row, kspace_encode_step_2=plane),
            directions,
            centre,
        )
        for plane in range(4)
        for row in range(6)
    ]
    raw = read_kspace(write(tmp_path / "scan.h5", header(16, 6, 4, 8, 3), lines))
    image = centred(np.fft.ifft, centred(np.fft.ifft, raw.data.compute()[:, 0], 1), 2)
    np.testing.assert_allclose(point_at(raw.orientation, image), centre + directions.T @ along, atol=1e-4)


@pytest.mark.parametrize("trouble", ["uneven", "turned", "same place"])
def test_slices_of_no_regular_stack_have_no_place(tmp_path: Path, trouble: str) -> None:
    directions, lines = rotation(), []
    for z, place_mm in enumerate((0.0, 4.0, 4.0 if trouble == "same place" else 8.0, 12.0)):
        offset = 40.0 if trouble == "uneven" and z == 3 else place_mm
        turned = directions[[1, 0, 2]] if trouble == "turned" and z == 2 else directions
        for row in range(6):
            acquisition = line(random(1, 8), kspace_encode_step_1=row, slice=z)
            lines.append(place(acquisition, turned, offset * directions[2]))
    raw = read_kspace(write(tmp_path / "scan.h5", header(8, 6, 1, 8, 3), lines))
    assert raw.orientation.affine is None


def test_without_directions_nobody_knows_the_place(tmp_path: Path) -> None:
    lines = [line(random(1, 8), kspace_encode_step_1=row) for row in range(6)]
    raw = read_kspace(write(tmp_path / "scan.h5", header(8, 6, 1, 8, 3), lines))
    assert raw.orientation.affine is None


def spoke(num_samples: int, dimensions: int = 2, scale: float = 1.0, **counters: int) -> Any:
    """An acquisition of one coil along x."""
    acquisition = line(random(1, num_samples), **counters)
    acquisition.resize(num_samples, 1, trajectory_dimensions=dimensions)
    acquisition.traj[:] = 0
    acquisition.traj[:, 0] = scale * np.linspace(-0.5, 0.5, num_samples)
    return acquisition


def test_trajectories_stay_with_their_readouts(tmp_path: Path) -> None:
    """Two slices, of which the second lies below; the file's order of x and y; samples to discard."""
    rng = np.random.default_rng(0)
    k = random(2, 3, 5, 9)  # slice, coil, readout, sample
    paths = rng.uniform(-0.5, 0.5, (2, 5, 9, 2)).astype(np.float32)
    lines = []
    for readout in range(5):
        for z in (0, 1):
            acquisition = ismrmrd.Acquisition.from_array(k[z, :, readout], paths[z, readout, :, ::-1].copy())
            acquisition.idx.slice = z
            acquisition.discard_pre, acquisition.discard_post = 2, 1
            acquisition.position[:] = (0.0, 0.0, -4.0 * z)
            lines.append(acquisition)
    raw = read_kspace(write(tmp_path / "scan.h5", header(24, 10, 1, 12, 5, "radial"), lines))
    assert raw.trajectory is not None
    np.testing.assert_array_equal(raw.data.compute(), k[::-1, ..., 2:8])
    np.testing.assert_array_equal(raw.trajectory, paths[::-1, :, 2:8])
    assert raw.image_shape == (10, 12)
    assert raw.voxel_mm == pytest.approx((4.0, 1.5, 2.0))
    assert raw.history == ("trajectory: radial",)


NOISY = [line(random(1, 8)), *(line(random(n, 8), ismrmrd.ACQ_IS_NOISE_MEASUREMENT) for n in (1, 2))]


@pytest.mark.parametrize(
    ("xml", "lines", "message"),
    [
        (header(8, 4, 1, 8, 2, "spiral"), [line(random(1, 8))], "trajectories of 0 dimensions, expected 2"),
        (header(8, 4, 1, 8, 2, "radial"), [spoke(8, 3)], "trajectories of 3 dimensions, expected 2"),
        (header(8, 4, 1, 8, 2, "radial"), [spoke(8), spoke(6)], "readouts of 6, 8 samples"),
        (
            header(8, 4, 2, 8, 2, "radial"),
            [spoke(8), spoke(8, kspace_encode_step_2=1)],
            "2 partitions of a 3D trajectory, expected slices",
        ),
        (header(8, 4, 1, 8, 2, "radial"), [spoke(8), spoke(8), spoke(8, slice=1)], "1 to 2 readouts a slice"),
        (header(8, 4, 1, 8, 2, "radial"), [spoke(8, scale=9)], "reaches 4.5 cycles per pixel, expected 0.5"),
        ("<html/>", [line(random(1, 8))], "the XML header is not one of ISMRMRD"),
        (header(8, 4, 1, 8, 2), [line(random(1, 8), ismrmrd.ACQ_IS_REVERSE)], "echoes in both directions"),
        (header(8, 4, 1, 8, 2), [line(random(1, 8), ismrmrd.ACQ_IS_NOISE_MEASUREMENT)], "no acquisition of"),
        (
            header(8, 4, 1, 8, 2),
            [line(random(1, 8), kspace_encode_step_1=9)],
            "kx 0 to 7, ky 9, kz 0, outside",
        ),
        (header(8, 4, 1, 8, 2), [line(random(1, 8)), line(random(2, 8))], "1, 2 coils in different"),
        (header(8, 4, 1, 8, 2), NOISY, "1, 2 coils in different acquisitions"),
        (header(8, 0, 1, 8, 2), [line(random(1, 8))], "a matrix of 8 x 0 x 1"),
        (
            header(8, 4, 2, 8, 2),
            [line(random(1, 8), slice=1), line(random(1, 8))],
            "2 slabs of 3D k-space, expected one",
        ),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, xml: str, lines: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_kspace(write(tmp_path / "scan.h5", xml, lines))
