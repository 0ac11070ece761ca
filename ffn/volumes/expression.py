"""Expressions in x, y, z from request files, evaluated so that they can do nothing else.

Only arithmetic, comparisons, boolean operators and a few element-wise NumPy functions are supported.
The syntax tree is walked here; nothing is passed to Python's own evaluator.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ffn.utils.errors import UserError

# An array, or a number where no variable is involved.
Value = Any
Function = Callable[..., Value]

_BINARY: dict[type[ast.operator], Function] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
# What integers can outgrow their type by, and how large they become at most, from the greatest of both sides.
_GROWING: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.add,
    ast.Mult: operator.mul,
    ast.Pow: lambda base, exponent: base ** min(exponent, 64),
}
_UNARY: dict[type[ast.unaryop], Function] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: np.logical_not,
}
_COMPARE: dict[type[ast.cmpop], Function] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_NAMES = """
    abs sqrt square floor ceil sign sin cos tan arctan2 hypot exp log minimum maximum clip mod where
    logical_and logical_or logical_not logical_xor
"""
FUNCTIONS: dict[str, Function] = {name: getattr(np, name) for name in _NAMES.split()}


def evaluate(expression: str, variables: Mapping[str, np.ndarray]) -> np.ndarray | float:
    """Evaluates an expression element-wise.

    Args:
      expression: such as '(x > 100) & (np.hypot(y - 50, z - 50) < 20)'.
      variables: name → array; they are broadcast against each other.

    Returns:
      The value, of the broadcast shape of the variables, or a number if none is used.

    Raises:
      UserError: the expression uses anything that is not supported.
    """
    try:
        tree = ast.parse(expression.strip(), mode='eval')
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f'coordinate expression {expression!r} cannot be read: {error}') from error
    try:
        with np.errstate(all='ignore'):
            return _Evaluator(expression, variables).value(tree.body)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f'coordinate expression {expression!r} cannot be computed: {error}'
        ) from error


class _Evaluator:
    """Walks the syntax tree of one expression."""

    def __init__(self, expression: str, variables: Mapping[str, np.ndarray]):
        self._expression, self._variables = expression, variables

    def _refusal(self, node: ast.AST, what: str = '') -> UserError:
        return UserError(
            f'coordinate expression {self._expression!r} uses {what or repr(ast.unparse(node))}; '
            f'known are numbers, {", ".join(self._variables)}, arithmetic, comparisons, & | ^ ~ and '
            f'np.{{{",".join(FUNCTIONS)}}}'
        )

    def value(self, node: ast.AST) -> Value:
        """Computes a node of the tree."""
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                if abs(number) > 2**53:
                    raise self._refusal(node, 'a number beyond 2**53')
                return np.asarray(number)[()]
            case ast.Name() if node.id in self._variables:
                return self._variables[node.id]
            case ast.BinOp() if type(node.op) in _BINARY:
                return _combine(type(node.op), self.value(node.left), self.value(node.right))
            case ast.UnaryOp() if type(node.op) in _UNARY:
                return _UNARY[type(node.op)](self.value(node.operand))
            case ast.BoolOp():
                join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
                return functools.reduce(join, map(self.value, node.values))
            case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
                terms = [self.value(term) for term in (node.left, *node.comparators)]
                pairs = zip(node.ops, terms, terms[1:], strict=False)
                return functools.reduce(
                    np.logical_and, (_COMPARE[type(op)](a, b) for op, a, b in pairs)
                )
            case ast.Call(keywords=[]) if not any(isinstance(a, ast.Starred) for a in node.args):
                function = self._function(node.func)
                # Another number of arguments means something else to NumPy, such as `out`.
                if len(node.args) != getattr(function, 'nin', 3):
                    raise self._refusal(node)
                if function is np.square:
                    base = self.value(node.args[0])
                    return _combine(ast.Mult, base, base)
                return function(*map(self.value, node.args))
        raise self._refusal(node)

    def _function(self, node: ast.AST) -> Function:
        match node:
            case ast.Name() if node.id in FUNCTIONS:
                return FUNCTIONS[node.id]
            case ast.Attribute(value=ast.Name(id='np' | 'numpy')) if node.attr in FUNCTIONS:
                return FUNCTIONS[node.attr]
        raise self._refusal(node)


def _combine(kind: type[ast.operator], left: Value, right: Value) -> Value:
    """Joins two values; integers that outgrow their type, which NumPy would wrap, become floats."""
    dtype = np.result_type(left, right)
    if kind in _GROWING and dtype.kind == 'i':
        exponent = max(int(np.max(right)), 0) if kind is ast.Pow else _greatest(right)
        if _GROWING[kind](_greatest(left), exponent) > np.iinfo(dtype).max:
            left, right = (np.asarray(value, np.float64) for value in (left, right))
    return _BINARY[kind](left, right)


def _greatest(value: Value) -> int:
    return max(abs(int(np.min(value))), abs(int(np.max(value))))
