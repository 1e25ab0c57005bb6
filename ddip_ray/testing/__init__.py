"""Tests that users inherit for their own operators; they need pytest."""

import pytest

pytest.register_assert_rewrite("ddip_ray.testing.operator_contract")

from ddip_ray.testing.operator_contract import (  # noqa: E402
    OperatorContract,
    assert_adjoint,
    dense_matrix,
    inner,
    randn,
)

__all__ = ["OperatorContract", "assert_adjoint", "dense_matrix", "inner", "randn"]
