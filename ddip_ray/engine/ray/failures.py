"""Finding the cause when a call to all workers fails: one error, among those that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ddip_ray.errors import InputError, WorkersLost

SETTLE_TIMEOUT = 3.0  # seconds for the other workers to fail, too, once one has
MACHINE = ("CUDA error", "NCCL error", "CUBLAS_STATUS", "CUDNN_STATUS")
COLLATERAL = ("Connection closed", "Connection reset", "Timed out", "connection closed", "Broken pipe")


class _Kind(IntEnum):
    """Kinds of failures; the smaller, the closer to the cause."""

    MISTAKE = 0
    LOSS = 1  # no error of another worker makes a worker die
    BUG = 2
    SILENCE = 3
    COLLATERAL = 4


@dataclass(frozen=True)
class _Failure:
    """The failure of one worker."""

    kind: _Kind
    rank: int
    error: BaseException


def _failure(rank: int, ref: Any) -> _Failure | None:
    import ray
    from torch.distributed import DistError

    try:
        ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError as error:
        return _Failure(_Kind.SILENCE, rank, error)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, InputError):
            return _Failure(_Kind.MISTAKE, rank, cause)
        # An interrupted collective follows from another worker's failure.
        if isinstance(cause, DistError) or any(text in str(cause) for text in COLLATERAL):
            return _Failure(_Kind.COLLATERAL, rank, cause)
        machine = any(text in str(cause) for text in MACHINE)
        return _Failure(_Kind.LOSS if machine else _Kind.BUG, rank, cause)
    except ray.exceptions.RayError as error:
        return _Failure(_Kind.LOSS, rank, error)
    return None


def root_cause(refs: Sequence[Any]) -> Exception:
    """The error to raise when a call to all workers failed.

    When one worker fails, the others fail moments later in a collective operation, and their errors may
    arrive first.

    Args:
        refs: the pending results of the call, in the order of the workers.

    Returns:
        An InputError if the user can mend it, WorkersLost if new workers may succeed, or a RuntimeError.
    """
    import ray

    ray.wait(list(refs), num_returns=len(refs), timeout=SETTLE_TIMEOUT)
    found = [_failure(rank, ref) for rank, ref in enumerate(refs)]
    failures = [failure for failure in found if failure is not None]
    if not failures:
        return WorkersLost("the workers answered too late")
    first = min(failures, key=lambda failure: (failure.kind, failure.rank))
    match first.kind:
        case _Kind.MISTAKE:
            assert isinstance(first.error, InputError)
            return first.error
        case _Kind.BUG:
            error = RuntimeError(f"worker {first.rank} failed: {first.error!r}")
            error.__cause__ = first.error
            return error
        case _Kind.SILENCE:
            return WorkersLost(f"worker {first.rank} does not answer")
    words = str(first.error).strip().partition("\n")[0].partition(": RpcError")[0]
    return WorkersLost(f"worker {first.rank} was lost: {words}")
