"""The metadata of stores (attribute ``ddip_ray``): frozen, versioned, strict about unknown fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from ddip_ray import __version__
from ddip_ray.config.names import SamplingPattern
from ddip_ray.errors import InputError

ATTRIBUTE_KEY = "ddip_ray"
VERSION = 1

# names of the arrays of an acquisition store
MEASUREMENTS = "measurements"
REFERENCE = "reference"
SAMPLING_MASK = "sampling_mask"
SENSITIVITY_MAPS = "sensitivity_maps"
TRAJECTORY = "trajectory"

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Affine = tuple[
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
]
VoxelMm = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Frozen(BaseModel):
    """A value object: no field can be changed, none may be unknown, no number may be NaN or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArrayLayout(NamedTuple):
    """The type, slice shape and axes of an array of a store, and whether the array may be missing."""

    dtype: str
    slice_shape: tuple[int, ...]
    axes: tuple[str, ...]
    optional: bool = False


class ParallelCT(Frozen):
    """Parallel-beam CT, every slice measured alone: (z, y, x) -> (z, view, detector).

    ``rotation_center`` is the 0-based, possibly fractional detector column on which the axis projects.
    """

    kind: Literal["parallel_ct"] = "parallel_ct"
    angles_deg: Annotated[tuple[float, ...], Field(min_length=1)]
    num_detectors: PositiveInt
    detector_spacing_mm: PositiveFloat
    rotation_center: float
    image_shape: tuple[PositiveInt, PositiveInt]
    voxel_mm: VoxelMm

    @field_validator("voxel_mm")
    @classmethod
    def _square_pixels(cls, voxel_mm: VoxelMm) -> VoxelMm:
        _, y, x = voxel_mm
        if not math.isclose(y, x, rel_tol=1e-3):
            raise ValueError(
                f"the voxel must be square in the plane of a slice (to 0.1 %): found y {y:g} mm, x {x:g} mm"
            )
        return voxel_mm

    @model_validator(mode="after")
    def _axis_on_detector(self) -> ParallelCT:
        if not -0.5 <= self.rotation_center <= self.num_detectors - 0.5:
            raise ValueError(
                f"rotation_center {self.rotation_center:g} lies outside the detector's columns "
                f"0 to {self.num_detectors - 1}"
            )
        return self

    @property
    def num_views(self) -> int:
        """Number of projection angles."""
        return len(self.angles_deg)

    @property
    def measurement_shape(self) -> tuple[int, int]:
        """Shape of one slice's measurements, (view, detector)."""
        return self.num_views, self.num_detectors

    @property
    def arrays(self) -> dict[str, ArrayLayout]:
        """The arrays that a store of this acquisition has or may have."""
        return {
            MEASUREMENTS: ArrayLayout("float32", self.measurement_shape, ("z", "view", "detector")),
            REFERENCE: ArrayLayout("float32", self.image_shape, ("z", "y", "x"), optional=True),
        }


class Sampling(Frozen):
    """How a sampling mask was made; the mask itself is in the store.

    ``acceleration`` is the nominal one. ``calibration`` is the number of lines, or the side of the square,
    that is fully sampled at the centre.
    """

    pattern: SamplingPattern | Literal["given"]
    acceleration: PositiveFloat | None = None
    calibration: NonNegativeInt | None = None
    seed: int | None = None


class CartesianMRI(Frozen):
    """Cartesian MRI, every slice measured alone: complex (z, y, x) -> (z, coil, ky, kx).

    k-space is centred (zero frequency at size // 2) and its Fourier transform orthonormal. Beside the
    measurements the store has their ``sampling_mask`` (z, ky, kx) and may have ``sensitivity_maps``
    (z, coil, y, x).
    """

    kind: Literal["cartesian_mri"] = "cartesian_mri"
    num_coils: PositiveInt
    image_shape: tuple[PositiveInt, PositiveInt]
    voxel_mm: VoxelMm
    sampling: Sampling

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """Shape of one slice's measurements, (coil, ky, kx)."""
        return self.num_coils, *self.image_shape

    @property
    def arrays(self) -> dict[str, ArrayLayout]:
        """The arrays that a store of this acquisition has or may have."""
        return {
            MEASUREMENTS: ArrayLayout("complex64", self.measurement_shape, ("z", "coil", "ky", "kx")),
            SAMPLING_MASK: ArrayLayout("bool", self.image_shape, ("z", "ky", "kx")),
            SENSITIVITY_MAPS: ArrayLayout(
                "complex64", self.measurement_shape, ("z", "coil", "y", "x"), optional=True
            ),
            REFERENCE: ArrayLayout("complex64", self.image_shape, ("z", "y", "x"), optional=True),
        }


class NonCartesianMRI(Frozen):
    """MRI along any trajectory, every slice measured alone: complex (z, y, x) -> (z, coil, readout, sample).

    The store has the ``trajectory`` (z, readout, sample, 2) in cycles per pixel along y and x, and may have
    ``sensitivity_maps`` (z, coil, y, x). The transform is that of `NonCartesianSense`.
    """

    kind: Literal["noncartesian_mri"] = "noncartesian_mri"
    num_coils: PositiveInt
    num_readouts: PositiveInt
    num_samples: PositiveInt
    image_shape: tuple[PositiveInt, PositiveInt]
    voxel_mm: VoxelMm
    sampling: Sampling

    @property
    def measurement_shape(self) -> tuple[int, int, int]:
        """Shape of one slice's measurements, (coil, readout, sample)."""
        return self.num_coils, self.num_readouts, self.num_samples

    @property
    def arrays(self) -> dict[str, ArrayLayout]:
        """The arrays that a store of this acquisition has or may have."""
        path = (self.num_readouts, self.num_samples, 2)
        maps = (self.num_coils, *self.image_shape)
        return {
            MEASUREMENTS: ArrayLayout(
                "complex64", self.measurement_shape, ("z", "coil", "readout", "sample")
            ),
            TRAJECTORY: ArrayLayout("float32", path, ("z", "readout", "sample", "axis")),
            SENSITIVITY_MAPS: ArrayLayout("complex64", maps, ("z", "coil", "y", "x"), optional=True),
            REFERENCE: ArrayLayout("complex64", self.image_shape, ("z", "y", "x"), optional=True),
        }


_ALL_KINDS = (ParallelCT, CartesianMRI, NonCartesianMRI)
_KINDS = tuple(kind.model_fields["kind"].default for kind in _ALL_KINDS)
AcquisitionKind = Annotated[ParallelCT | CartesianMRI | NonCartesianMRI, Field(discriminator="kind")]


class Intensity(Frozen):
    """The relation between the normalised image x, about 0 to 1 as the prior knows it, and original units.

    ``original = offset + scale * x`` in ``unit``, and ``stored measurements / measurement_scale = A x``,
    where A takes line integrals in mm or samples of k-space (then x is complex and the offset 0).
    """

    scale: PositiveFloat = 1.0
    offset: float = 0.0
    unit: str = ""
    measurement_scale: PositiveFloat = 1.0


class NoNoise(Frozen):
    """Simulated measurements without noise."""

    kind: Literal["none"] = "none"


class GaussianNoise(Frozen):
    """Simulated white noise; ``std`` in units of the stored measurements.

    ``relative_std`` is ``std`` divided by the root mean square of the noise-free measurements. For complex
    measurements both describe the real part and, equally, the imaginary part.
    """

    kind: Literal["gaussian"] = "gaussian"
    relative_std: NonNegativeFloat | None = None
    std: NonNegativeFloat
    seed: int


class PoissonNoise(Frozen):
    """Simulated photon counting with ``photons`` per detector pixel and view in air.

    ``std`` is the root mean square of the noise over all rays, in units of the stored measurements.
    """

    kind: Literal["poisson"] = "poisson"
    photons: PositiveFloat
    std: NonNegativeFloat | None = None
    seed: int


class MeasuredNoise(Frozen):
    """Noise of a real measurement; ``std`` is its estimate, with the meaning it has in `GaussianNoise`."""

    kind: Literal["measured"] = "measured"
    std: NonNegativeFloat | None = None


Noise = Annotated[NoNoise | GaussianNoise | PoissonNoise | MeasuredNoise, Field(discriminator="kind")]


class Orientation(Frozen):
    """The directions of the stored axes.

    ``directions`` has a letter for the direction in which z, y and x grow, of S/I, A/P and R/L ("SAR" means
    Superior, Anterior, Right), or is None when unknown. ``affine`` maps voxel (x, y, z, 1) to world mm in
    NIfTI's sense (RAS+).
    """

    axes: Literal["zyx"] = "zyx"
    directions: Annotated[str, Field(pattern="^[SIAPRL]{3}$")] | None = None
    affine: Affine | None = None

    def from_slice(self, first: int) -> Orientation:
        """The orientation of the volume that begins at slice ``first`` of this one."""
        if self.affine is None:
            return self
        rows = tuple((a, b, c, d + first * c) for a, b, c, d in self.affine)
        return Orientation.model_validate({**self.model_dump(), "affine": rows})


class Source(Frozen):
    """The file that was read, and what was done to it in words; ``name`` is without its folder."""

    name: str
    format: str
    history: tuple[str, ...] = ()
    software: str = f"ddip-ray {__version__}"

    @field_validator("name")
    @classmethod
    def _no_folder(cls, name: str) -> str:
        return PurePath(name).name  # a store is shared with others: no home folder in it

    def noting(self, *lines: str) -> Source:
        """The same source with more lines of history."""
        return self.model_copy(update={"history": (*self.history, *lines)})


class AcquisitionMetadata(Frozen):
    """Everything that is known about an acquisition except the measured numbers."""

    version: Literal[1] = 1
    acquisition: AcquisitionKind
    intensity: Intensity = Intensity()
    noise: Noise = NoNoise()
    orientation: Orientation = Orientation()
    source: Source

    @model_validator(mode="after")
    def _complex_images_have_no_offset(self) -> AcquisitionMetadata:
        if not isinstance(self.acquisition, ParallelCT) and self.intensity.offset != 0:
            raise ValueError(f"intensity.offset {self.intensity.offset:g}, expected 0 for complex images")
        return self


class ResultMetadata(Frozen):
    """The metadata of a result, beside its ``ome`` attribute.

    ``unit`` is the unit of the voxel values, ``channels`` are the names of the channels, if there are any.
    """

    version: Literal[1] = 1
    kind: Literal["result"] = "result"
    unit: str = ""
    channels: tuple[str, ...] = ()
    orientation: Orientation = Orientation()
    provenance: dict[str, JsonValue] = {}


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], raw: Mapping[str, Any] | Any, where: str) -> Model:
    """A validated ``model`` from plain data; InputError lists the bad fields, one bullet each."""
    if isinstance(raw, Mapping) and isinstance(raw.get("version"), int) and raw["version"] > VERSION:
        raise InputError(
            f"{where}: version {raw['version']} of the {ATTRIBUTE_KEY} metadata, this ddip-ray "
            f"({__version__}) reads version {VERSION}",
            "Update ddip-ray",
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        bullets = "".join(f"\n  - {_bullet(item)}" for item in error.errors())
        raise InputError(f"{where}: the {ATTRIBUTE_KEY} metadata is not valid:{bullets}") from error


def _bullet(item: Any) -> str:
    # pydantic adds the kind of a union's member to the path, which the file does not have
    field = ".".join(str(part) for part in item["loc"] if part not in _KINDS) or "metadata"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("missing", "value_error"):
        return f"{field}: {message}"
    found = repr(item["input"])
    return f"{field}: {message}, found {found if len(found) <= 60 else found[:57] + '...'}"
