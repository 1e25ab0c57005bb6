"""The metadata: frozen, strict, and clear about what is wrong."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ddip_ray.errors import InputError
from ddip_ray.io.stores.schema import AcquisitionMetadata, Intensity, ParallelCT, validate


def test_round_trip_through_json(metadata):
    assert AcquisitionMetadata.model_validate_json(metadata.model_dump_json()) == metadata


def test_frozen(metadata):
    with pytest.raises(ValidationError, match="frozen"):
        metadata.version = 2


def test_source_drops_the_folder(metadata):
    assert metadata.source.name == "phantom.nii"


def test_every_bad_field_has_its_bullet(metadata):
    raw = metadata.model_dump(mode="json")
    raw["acquisition"]["voxel_mm"] = [3.0, 1.0, 1.5]
    raw["acquisition"]["colour"] = "blue"
    raw["noise"] = {"kind": "thermal"}
    del raw["source"]
    with pytest.raises(InputError) as caught:
        validate(AcquisitionMetadata, raw, "vol.zarr")
    message = str(caught.value)
    assert message.startswith("vol.zarr: ")
    assert message.count("\n  - ") == 4
    assert "acquisition.voxel_mm: the voxel must be square" in message
    assert "y 1 mm, x 1.5 mm" in message
    assert "acquisition.colour: Extra inputs are not permitted, found 'blue'" in message
    assert "thermal" in message
    assert "source: Field required" in message


@pytest.mark.parametrize(("version", "match"), [(2, "Update ddip-ray"), (0, "version: Input should be 1")])
def test_wrong_version(metadata, version, match):
    with pytest.raises(InputError, match=match):
        validate(AcquisitionMetadata, {**metadata.model_dump(mode="json"), "version": version}, "vol.zarr")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("angles_deg", [], "at least 1 item"),
        ("angles_deg", [0.0, float("nan")], "finite"),
        ("detector_spacing_mm", 0.0, "greater than 0"),
        ("rotation_center", 40.0, "outside the detector's columns 0 to 15"),
        ("kind", "cone_ct", "parallel_ct"),
    ],
)
def test_impossible_geometry(metadata, field, value, match):
    raw = metadata.acquisition.model_dump() | {field: value}
    with pytest.raises(InputError, match=match):
        validate(ParallelCT, raw, "geometry")


def test_nearly_square_voxels_pass(metadata):
    raw = metadata.acquisition.model_dump() | {"voxel_mm": (3.0, 0.6667, 0.66675)}
    assert ParallelCT.model_validate(raw).voxel_mm[1] == 0.6667


def test_intensity_is_positive():
    with pytest.raises(InputError, match="scale"):
        validate(Intensity, {"scale": 0.0}, "x")
