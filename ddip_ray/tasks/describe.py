"""A store's summary in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddip_ray.units import format_bytes


def in_words(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts of `ddip_ray.io.stores.summary.summarize`, named and formatted for reading."""
    words = _acquisition(facts) if facts["store"] == "acquisition" else _result(facts)
    size = facts.get("bytes_on_disk")
    files = f"{facts['num_shards']} of {facts['shard_slices']} slices"
    words["shards"] = files + (f", {format_bytes(size)} in all" if size is not None else "")
    return words


def _acquisition(facts: Mapping[str, Any]) -> dict[str, str]:
    intensity, source = facts["intensity"], facts["source"]
    return {
        "store": f"acquisition, {facts['kind']}",
        "path": facts["path"],
        "measurements": f"{_shape(facts['measurements_shape'])} ({', '.join(facts['measurements_axes'])})",
        "image": f"{_shape(facts['image_shape'])} (z, y, x), voxel {_mm(facts['voxel_mm'])} mm",
        **(_views(facts) if "num_views" in facts else _kspace(facts)),
        "reference": "yes" if facts["has_reference"] else "no",
        "intensity": f"{intensity['offset']:g} + {intensity['scale']:g} x {intensity['unit']}".rstrip()
        + " for the normalised value x",
        "noise": _noise(facts["noise"]),
        "orientation": _orientation(facts["orientation"]),
        "source": "\n".join([f"{source['name']} ({source['format']})", *source["history"]]),
    }


def _views(facts: Mapping[str, Any]) -> dict[str, str]:
    low, high = facts["angular_range_deg"]
    return {
        "views": f"{facts['num_views']}, {low:g} to {high:g} degrees",
        "detector": f"{facts['num_detectors']} columns of {facts['detector_spacing_mm']:.4g} mm, "
        f"rotation axis at column {facts['rotation_center']:g}",
    }


def _kspace(facts: Mapping[str, Any]) -> dict[str, str]:
    sampling = facts["sampling"]
    maps = "in the store" if facts["has_sensitivity_maps"] else "not in the store"
    nominal = sampling["acceleration"]
    return {
        "coils": f"{facts['num_coils']}, sensitivity maps {maps}",
        "sampling": sampling["pattern"] + ("" if nominal is None else f", nominal acceleration {nominal:g}"),
        "acceleration": f"{facts['true_acceleration']:.2f}",
    }


def _result(facts: Mapping[str, Any]) -> dict[str, str]:
    run = facts["provenance"]
    words = {
        "store": "result, OME-Zarr 0.5",
        "path": facts["path"],
        "image": f"{_shape(facts['image_shape'])} (z, y, x), voxel {_mm(facts['voxel_mm'])} mm",
        "levels": str(facts["num_levels"]),
        "unit": facts["unit"] or "none",
        "orientation": _orientation(facts["orientation"]),
    }
    if "method" in run:
        config = run.get("config", {})
        words["method"] = run["method"]
        words["seed"] = str(config.get("seed", "unknown"))
        if run.get("prior_digest"):
            words["prior"] = f"{config.get('prior', '')} {run['prior_digest'][:12]}"
            words["network calls"] = f"{run['nfe']} a slice, and {run['adapt_nfe']} to adapt or decide"
        words["residual"] = f"{run['residual']:.4g} of the measurements' norm"
        words["seconds"] = f"{run['seconds']['total']:.1f}"
        words["acquisition"] = run["acquisition"]["path"]
    return words


def _noise(noise: Mapping[str, Any]) -> str:
    if noise["kind"] == "gaussian":
        relative = noise.get("relative_std")
        return f"gaussian, std {noise['std']:.4g}" + (f", {relative:.3g} of the signal" if relative else "")
    if noise["kind"] == "poisson":
        return f"poisson, {noise['photons']:g} photons"
    if noise["kind"] == "measured":
        return "measured" if noise.get("std") is None else f"measured, std about {noise['std']:.4g}"
    return "none"


def _orientation(orientation: Mapping[str, Any]) -> str:
    directions = orientation.get("directions")
    if not directions:
        return "unknown"
    names = {"S": "superior", "I": "inferior", "A": "anterior", "P": "posterior", "L": "left", "R": "right"}
    return ", ".join(f"{axis} to {names[letter]}" for axis, letter in zip("zyx", directions, strict=True))


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _mm(voxel: list[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in voxel)
