"""The reference of the public Python names, as mkdocstrings directives."""

from __future__ import annotations

import ddip_ray

_GROUPS = {
    "Reconstruct": ("solve", "iterate", "Step", "reconstruct"),
    "Images, scans and results": (
        "load_image",
        "simulate",
        "open_acquisition",
        "OpenAcquisition",
        "open_result",
        "psnr",
        "ssim",
    ),
    "Priors and settings": ("load_prior", "RunConfig", "InputError"),
}
_OPERATORS = ("LinearOperator", "ParallelBeam", "ParallelBeamGeometry", "Sense", "NonCartesianSense")
_INTRODUCTION = """# Python reference

`import ddip_ray as dr` gives these names; each module is imported when its name is first used.
`dr.methods` is the table of methods by name, `dr.operators` the operators at the end of this page.
The [guide](../guide/python.md) shows how they work together.
"""


def api_page() -> str:
    """The page ``reference/api.md``."""
    shown = {name for names in _GROUPS.values() for name in names}
    missing = set(ddip_ray.__all__) - shown - {"methods", "operators"}
    groups = {**_GROUPS, "More": tuple(sorted(missing))} if missing else _GROUPS
    parts = [_INTRODUCTION]
    for title, names in groups.items():
        parts.append(f"## {title}\n")
        parts += [_directive(ddip_ray._PUBLIC[name], name) for name in names]
    parts.append("## Operators\n")
    parts += [_directive(getattr(ddip_ray.operators, name).__module__, name) for name in _OPERATORS]
    return "\n".join(parts)


def _directive(module: str | None, name: str) -> str:
    return f"::: {module}.{name}\n    options:\n      heading_level: 3\n"
