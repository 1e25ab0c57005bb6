"""A picture of several results: a row each, with a zoom and the error."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddip_ray.tasks.judge.volumes import Volume

ZOOM = 3  # the zoom shows a third of the slice's side
ERROR_RANGE = 0.1
CELL_INCHES = 1.9
FONT_POINTS = 8


def comparison_picture(volumes: Mapping[str, Volume], reference: Volume | None) -> bytes:
    """A PNG with a row for each volume: axial slice, its zoom, coronal and sagittal slice, and |error|.

    Volumes are normalised (z, y, x) and shown on the grey window 0 to 1. The zoom shows where the methods
    differ most from the reference, or from their mean if there is no reference.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Rectangle
    from matplotlib.textpath import TextPath

    rows = dict(volumes) if reference is None else {"reference": reference, **volumes}
    first = next(iter(rows.values()))
    z, y, x = (size // 2 for size in first.shape)
    top, left, height, width = zoom_window(
        [v[z] for v in volumes.values()], None if reference is None else reference[z]
    )
    titles = ["axial", "zoom", "coronal", "sagittal"]
    if reference is not None:
        titles.append(f"|error|, 0 to {ERROR_RANGE:g}")
    font = FontProperties(size=FONT_POINTS)
    lines = [line for name in rows for line in name.splitlines()]
    label = max(TextPath((0, 0), line, prop=font).get_extents().width for line in lines) / 72 + 0.25
    figure = Figure(
        figsize=(label + CELL_INCHES * len(titles), 0.3 + CELL_INCHES * len(rows)), dpi=110, facecolor="black"
    )
    grid = figure.add_gridspec(
        len(rows),
        len(titles),
        left=label / figure.get_figwidth(),
        right=0.995,
        top=1 - 0.3 / figure.get_figheight(),
        bottom=0.005,
        wspace=0.03,
        hspace=0.03,
    )
    for i, (name, volume) in enumerate(rows.items()):
        zoom = volume[z, top : top + height, left : left + width]
        images = [volume[z], zoom, volume[:, y], volume[:, :, x]]
        if reference is not None:
            images.append(np.abs(volume[z] - reference[z]))
        for j, image in enumerate(images):
            axes: Any = figure.add_subplot(grid[i, j])
            error = j == 4
            axes.imshow(
                image,
                cmap="inferno" if error else "gray",
                vmin=0,
                vmax=ERROR_RANGE if error else 1,
                interpolation="nearest",
                aspect="equal" if j in (0, 1) or error else "auto",
            )
            axes.set_axis_off()
            if j == 0:
                box = Rectangle(
                    (left - 0.5, top - 0.5), width, height, fill=False, edgecolor="yellow", linewidth=0.7
                )
                axes.add_patch(box)
            if i == 0:
                axes.set_title(titles[j], color="white", fontsize=FONT_POINTS, pad=3)
        middle = (axes.get_position().y0 + axes.get_position().y1) / 2
        figure.text(
            0.5 * label / figure.get_figwidth(),
            middle,
            name,
            color="white",
            ha="center",
            va="center",
            fontsize=FONT_POINTS,
        )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def zoom_window(
    slices: list[NDArray[np.float32]], reference: NDArray[np.float32] | None
) -> tuple[int, int, int, int]:
    """The window (top, left, height, width), a third of a slice's side, in which results differ most."""
    target = np.mean(slices, axis=0) if reference is None else reference
    error = sum(np.square(image - target) for image in slices)
    height, width = (max(1, size // ZOOM) for size in target.shape)
    total = np.pad(np.cumsum(np.cumsum(error, 0), 1), ((1, 0), (1, 0)))
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left), height, width
