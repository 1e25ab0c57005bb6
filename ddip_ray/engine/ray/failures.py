"""Why a call to all workers failed: the cause, among the errors that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ddip_ray.errors import InputError, WorkersLost

SETTLE_TIMEOUT = 3.0  # until the others have failed, too, when one has
MACHINE = ("CUDA error", "NCCL error", "CUBLAS_STATUS", "CUDNN_STATUS")
COLLATERAL = ("Connection closed", "Connection reset", "Timed out", "connection closed", "Broken pipe")


class _Kind(IntEnum):
    """The nearer to the cause the less."""

    MISTAKE = 0
    LOSS = 1  # no error of another worker makes a worker die
    BUG = 2
    SILENCE = 3
    COLLATERAL = 4


@dataclass(frozen=True)
class _Failure:
    """Of one worker."""

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
        # Whatever ends the talk of the workers follows from something else.
        if isinstance(cause, DistError) or any(text in str(cause) for text in COLLATERAL):
            return _Failure(_Kind.COLLATERAL, rank, cause)
        machine = any(text in str(cause) for text in MACHINE)
        return _Failure(_Kind.LOSS if machine else _Kind.BUG, rank, cause)
    except ray.exceptions.RayError as error:
        return _Failure(_Kind.LOSS, rank, error)
    return None


def root_cause(refs: Sequence[Any]) -> Exception:
    """What to raise when not all of the workers' calls, ``refs`` in their order, have come to an end.

    When one worker fails the others fail moments later in a collective, and theirs may be heard of first.
    InputError for what the user can mend, WorkersLost for what new workers may get over.
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
