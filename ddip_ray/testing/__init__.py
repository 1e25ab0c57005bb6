"""Tests to inherit for own operators, methods, communicators and executors; they need pytest."""

import pytest

pytest.register_assert_rewrite(
    "ddip_ray.testing.communicator_contract",
    "ddip_ray.testing.executor_contract",
    "ddip_ray.testing.method_contract",
    "ddip_ray.testing.operator_contract",
)

from ddip_ray.testing.communicator_contract import CommunicatorContract  # noqa: E402
from ddip_ray.testing.executor_contract import ExecutorContract  # noqa: E402
from ddip_ray.testing.method_contract import MethodContract, Run  # noqa: E402
from ddip_ray.testing.operator_contract import (  # noqa: E402
    OperatorContract,
    assert_adjoint,
    dense_matrix,
    inner,
    randn,
)
from ddip_ray.testing.workers import Member, Threads, on_workers  # noqa: E402

__all__ = [
    "CommunicatorContract",
    "ExecutorContract",
    "Member",
    "MethodContract",
    "OperatorContract",
    "Run",
    "Threads",
    "assert_adjoint",
    "dense_matrix",
    "inner",
    "on_workers",
    "randn",
]
