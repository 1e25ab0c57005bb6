"""The peak memory of a worker, and the error when a GPU has too little."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddip_ray.errors import Unavailable


def reset_peak() -> None:
    """Forget earlier peaks of this process; does nothing where the system cannot (outside Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes(device: str) -> int:
    """Peak bytes since `reset_peak`: of tensors on the GPU, or of the process's resident memory.

    Args:
        device: "cuda" or "cpu".
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def full_memory_explained(what: str) -> Iterator[None]:
    """Turn a lack of GPU memory in the block into an error that the user can mend.

    Args:
        what: what does not fit, for the message.

    Raises:
        Unavailable: the GPU's memory is full.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        words = str(error).partition(". ")[0]
        raise Unavailable(
            f"{what}: the GPU's memory is full ({words})",
            "Use more GPUs, for fewer slices each, or free this one of other programs.",
        ) from error
