"""Two multiply-adds on 16 slices, written as vector instructions.

The loops that numba vectorises by itself have alias checks and a scalar remainder. They are two to three
times slower, and the remainder may round differently. Here every slice goes through the same vector
instruction, so its bits do not depend on its place in a batch.
"""

# ruff: noqa: PLR0917 (the compiler's own calling conventions)

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

LANES = 16
"""Number of slices that one vector operation handles."""

# "contract" lets the compiler fuse multiply and add where the machine can; all lanes alike.
_FLAGS = ("contract",)


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add_pair(
    typing_context: Any, acc: Any, i: Any, src: Any, j: Any, weight0: Any, weight1: Any, stride: Any
) -> Any:
    """Add ``acc[i + l] += weight0 · src[j + l] + weight1 · src[j + stride + l]`` for l in 0 ... LANES − 1.

    ``acc`` and ``src`` are contiguous arrays of one float type; bounds are not checked.
    """
    signature = types.void(acc, types.intp, src, types.intp, acc.dtype, acc.dtype, types.intp)
    return signature, _generate


def _generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    acc, i, src, j, weight0, weight1, stride = args
    acc_type, src_type = signature.args[0], signature.args[2]
    scalar = context.get_data_type(acc_type.dtype)
    align = context.get_abi_sizeof(scalar)  # numpy promises no more than this

    target = _vector_pointer(context, builder, acc_type, acc, i, scalar)
    total = builder.load(target, align=align)
    for index, weight in ((j, weight0), (builder.add(j, stride), weight1)):
        values = builder.load(_vector_pointer(context, builder, src_type, src, index, scalar), align=align)
        product = builder.fmul(values, _splat(builder, weight), flags=_FLAGS)
        total = builder.fadd(total, product, flags=_FLAGS)
    builder.store(total, target, align=align)
    return context.get_dummy_value()


def _vector_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, scalar: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(scalar, LANES).as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    i32 = ir.IntType(32)
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(i32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))
