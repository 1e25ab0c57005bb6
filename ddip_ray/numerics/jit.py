"""Compilation by numba, with the settings that all our kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return ``function`` compiled at its first call, to machine code that releases the GIL.

    Rounding is as written. Without fastmath additions keep their order and nothing is fused, so that a vector
    loop and its remainder give the same bits.
    """
    options = {"nogil": True, "error_model": "numpy"}  # numpy: no test for zero before each division
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder it may write its cache to: compile in each process
        kernel = numba.njit(**options)(function)
    return kernel  # type: ignore[no-any-return]
