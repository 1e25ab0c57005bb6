"""Numba with the settings that all our kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile at first call, for machine code that releases the GIL and rounds as written.

    No fastmath: additions keep their order and nothing is fused behind our back, so a vector
    loop and its remainder give the same bits.
    """
    options = {"nogil": True, "error_model": "numpy"}  # numpy: no test for zero before each division
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder it may write its cache to: compile in each process
        kernel = numba.njit(**options)(function)
    return kernel  # type: ignore[no-any-return]
