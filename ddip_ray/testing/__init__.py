"""Tests that users inherit for their own operators, communicators and executors; they need pytest."""

import pytest

pytest.register_assert_rewrite(
    "ddip_ray.testing.communicator_contract",
    "ddip_ray.testing.executor_contract",
    "ddip_ray.testing.operator_contract",
)

from ddip_ray.testing.communicator_contract import CommunicatorContract  # noqa: E402
from ddip_ray.testing.executor_contract import ExecutorContract  # noqa: E402
from ddip_ray.testing.operator_contract import (  # noqa: E402
    OperatorContract,
    assert_adjoint,
    dense_matrix,
    inner,
    randn,
)

__all__ = [
    "CommunicatorContract",
    "ExecutorContract",
    "OperatorContract",
    "assert_adjoint",
    "dense_matrix",
    "inner",
    "randn",
]
