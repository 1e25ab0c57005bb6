"""Projection angles that a person writes: a range, a list or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddip_ray.errors import InputError

_ACCEPTED = (
    "Give START:STOP (evenly spaced, STOP left out), START:STOP:STEP, a comma-separated list, "
    "or a file (.npy, or text with one angle a line), in degrees"
)


def parse_angles(text: str, num_views: int) -> NDArray[np.float64]:
    """Angles (view,) in degrees from text: a range, a comma-separated list, or the path of a file.

    ``0:180:2`` means 90 views without 180 or 91 with it, whichever fits ``num_views``.

    Raises:
        InputError: none of these, or another number of angles than ``num_views``.
    """
    if Path(text).is_file():
        angles = _read_file(Path(text))
    elif ":" in text:
        angles = _parse_range(text, num_views)
    else:
        angles = _floats(text.split(","), text)
    if len(angles) != num_views:
        raise InputError(f"angles {text}: {len(angles)} angles, the data have {num_views} views", _ACCEPTED)
    return angles


def _parse_range(text: str, num_views: int) -> NDArray[np.float64]:
    numbers = _floats(text.split(":"), text)
    if len(numbers) == 2:
        return np.linspace(numbers[0], numbers[1], num_views, endpoint=False)
    if len(numbers) != 3 or numbers[2] == 0:
        raise InputError(f"angles {text}: not a range", _ACCEPTED)
    start, stop, step = numbers
    num_steps = int(np.floor((stop - start) / step + 1e-6))
    includes_stop = np.isclose(start + num_steps * step, stop)
    with_stop = start + step * np.arange(num_steps + 1)
    without_stop = includes_stop and num_views == num_steps
    return np.asarray(with_stop[:-1] if without_stop else with_stop)


def _read_file(path: Path) -> NDArray[np.float64]:
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64).ravel()
        except (ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read as npy ({error})") from error
    try:
        words = path.read_text().replace(",", " ").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file", _ACCEPTED) from error
    return _floats(words, str(path))


def _floats(words: list[str], where: str) -> NDArray[np.float64]:
    try:
        angles = np.array([float(word) for word in words])
    except ValueError as error:
        raise InputError(f"angles {where}: {error}", _ACCEPTED) from error
    if not np.isfinite(angles).all():
        raise InputError(f"angles {where}: not all finite", _ACCEPTED)
    return angles
