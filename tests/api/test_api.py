"""The Python interface: tensors in and out, stores opened, the engine by one call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ddip_ray as dr

FEW = {"sampler": {"num_steps": 4, "cg_iterations": 5, "final_cg_iterations": 10}}


def disc(num_slices: int = 3, size: int = 24) -> torch.Tensor:
    """A disc with a hole, (z, y, x) on 0…1."""
    c = torch.linspace(-1, 1, size)
    body = (c[:, None] ** 2 + 1.3 * c**2 < 0.7).float()
    hole = ((c[:, None] + 0.1) ** 2 + (c + 0.2) ** 2 < 0.08).float()
    return (0.7 * body - 0.4 * hole).expand(num_slices, -1, -1).contiguous()


def test_every_public_name_is_there() -> None:
    assert [name for name in dr.__all__ if getattr(dr, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        _ = dr.sovle


def test_importing_it_imports_nothing_heavy() -> None:
    script = "import sys, ddip_ray; print([m for m in ('torch', 'ray', 'zarr', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_solve_by_every_kind_of_method(untrained_prior: Path) -> None:
    image = disc()
    A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=16)
    y = A(image)
    by_cg = dr.solve(A, y, None, method="cg")
    assert by_cg.shape == image.shape
    assert float((by_cg - image).square().mean()) < float(image.square().mean()) / 10
    by_dds = dr.solve(A, y, str(untrained_prior), method="dds", **FEW)
    loaded = dr.load_prior(str(untrained_prior))
    torch.testing.assert_close(dr.solve(A, y, loaded, method="dds", **FEW), by_dds, rtol=0, atol=0)


def test_iterate_shows_each_step(untrained_prior: Path) -> None:
    image = disc()
    A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=16)
    steps = list(dr.iterate(A, A(image), str(untrained_prior), method="dds", **FEW))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert all(step.num_steps == 4 and step.x0.shape == image.shape for step in steps)
    assert steps[-1].residual < 0.05


def test_an_initial_image_is_refined(untrained_prior: Path) -> None:
    image = disc()
    A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=16)
    prior = str(untrained_prior)
    started = dr.solve(A, A(image), prior, method="dds", initial_image=image, **FEW)
    plain = dr.solve(A, A(image), prior, method="dds", **FEW)
    assert not torch.equal(started, plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": torch.zeros(3, 5, 5)}, r"`y` has shape \(3, 5, 5\), expected"),
        ({"noise_std": -1.0}, "`noise_std` is -1.0"),
        ({"noise_std": float("nan")}, "`noise_std` is nan"),
        ({"y": np.zeros((3, 8, 34))}, "`y` is ndarray, expected a tensor of torch.float32"),
        ({"y": torch.zeros(3, 8, 35, dtype=torch.float64)}, "`y` is torch.float64"),
        ({"y": torch.full((3, 8, 34), torch.nan)}, "NaN or infinite"),
        ({"y": torch.zeros(0, 8, 34)}, "no slice"),
        ({"initial_image": torch.zeros(1, 2, 2)}, r"`initial_image` has shape \(1, 2, 2\)"),
        ({"method": "dss"}, "no method 'dss'"),
        ({"smapler": {}}, "smapler"),
        ({"prior": None}, "needs a `prior`"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, object], message: str) -> None:
    image = disc()
    A = dr.operators.ParallelBeam.equispaced(image.shape[1:], num_views=8)
    given = {"y": A(image), "prior": "default", "method": "dds", **arguments}
    with pytest.raises(ValueError, match=message):
        dr.solve(A, **given)


def test_from_an_image_to_a_result(small_image: Path, tmp_path: Path) -> None:
    store, output = str(tmp_path / "vol.zarr"), str(tmp_path / "out.zarr")
    scan = dr.simulate(str(small_image), store, 16, window=(0.0, 1.0), noise="gaussian:0.01")
    image = dr.load_image(str(small_image), window=(0.0, 1.0))
    assert scan.shape == tuple(image.shape)
    reference = scan.reference()
    assert reference is not None
    torch.testing.assert_close(reference, image)
    assert scan.noise_std > 0
    misfit = scan.operator()(image) - scan.measurements()
    assert float(misfit.std()) == pytest.approx(scan.noise_std, rel=0.1)

    run = dr.reconstruct(store, output, method="cg", executor="local", progress=True)
    assert run.output == output
    found = dr.open_result(output).volume(normalised=True)
    again = dr.solve(scan.operator(), scan.measurements(), None, method="cg")
    np.testing.assert_allclose(found, again.numpy(), atol=1e-6)
    assert dr.psnr(found, image) > 15


def test_configurations_go_in_whole(small_scan: Path) -> None:
    config = dr.RunConfig.for_method("cg", cg={"iterations": 3})
    run = dr.reconstruct(str(small_scan), config=config, executor="local")
    assert run.output == str(small_scan).removesuffix(".zarr") + "-cg.zarr"
    assert dr.open_result(run.output).provenance["config"]["cg"]["iterations"] == 3


def test_a_path_may_go_up(small_scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = small_scan.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = dr.reconstruct(f"../{small_scan.name}", "../up.zarr", method="cg", executor="local")
    assert dr.open_result("../up.zarr").shape == dr.open_acquisition(f"../{small_scan.name}").shape
    assert (small_scan.parent / "up.zarr").is_dir()
    assert run.method == "cg"


@pytest.mark.parametrize("method", ["dds", "ddnm", "diffusionmbir", "d3ip", "scd"])
def test_slices_that_are_measured_each_in_its_own_way(
    small_mri: Path, untrained_prior: Path, method: str
) -> None:
    scan = dr.open_acquisition(str(small_mri))
    A, y = scan.operator(), scan.measurements()
    assert A.num_slices == len(y)
    few = {**FEW, "adaptation": {"num_adapt_steps": 1, "lora_rank": 2, "num_copies": 1}}
    found = dr.solve(A, y, str(untrained_prior), method=method, noise_std=scan.noise_std, **few)
    assert found.shape == scan.shape
    assert bool(torch.isfinite(found.abs()).all())
    with pytest.raises(ValueError, match=r"`y` has 2 slices, `A` is made for"):
        dr.solve(A, y[:2], None, method="cg")
