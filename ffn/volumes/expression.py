"""Expressions in x, y, z from request files, evaluated without the means to do anything else.

Only arithmetic, comparisons, boolean operators and a few element-wise NumPy functions are known;
the syntax tree is walked here and nothing is handed to Python's own evaluator.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Mapping

import numpy as np

from ffn.utils.errors import UserError

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}  # fmt: skip
_UNARY = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert,
    ast.Not: np.logical_not,
}  # fmt: skip
_COMPARE = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        'abs', 'sqrt', 'square', 'floor', 'ceil', 'sign', 'sin', 'cos', 'tan', 'arctan2', 'hypot',
        'exp', 'log', 'minimum', 'maximum', 'clip', 'mod', 'where', 'logical_and', 'logical_or',
        'logical_not', 'logical_xor',
    )
}  # fmt: skip


def evaluate(expression: str, variables: Mapping[str, np.ndarray]) -> np.ndarray | float:
    """Evaluates an expression element-wise.

    Args:
      expression: such as '(x > 100) & (np.hypot(y - 50, z - 50) < 20)'.
      variables: arrays that names stand for, broadcast against each other.

    Returns:
      The value, of the variables' broadcast shape, or a number where no variable is named.

    Raises:
      UserError: the expression uses anything else than is known here.
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

    def value(self, node: ast.AST):
        match node:
            case ast.Constant(value=bool() | int() | float()):
                if abs(node.value) > 2**53:
                    raise self._refusal(node, 'a number beyond 2**53')
                return np.asarray(node.value)[()]
            case ast.Name() if node.id in self._variables:
                return self._variables[node.id]
            case ast.BinOp() if type(node.op) in _BINARY:
                return _BINARY[type(node.op)](self.value(node.left), self.value(node.right))
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
                return function(*map(self.value, node.args))
        raise self._refusal(node)

    def _function(self, node: ast.AST):
        match node:
            case ast.Name() if node.id in FUNCTIONS:
                return FUNCTIONS[node.id]
            case ast.Attribute(value=ast.Name(id='np' | 'numpy')) if node.attr in FUNCTIONS:
                return FUNCTIONS[node.attr]
        raise self._refusal(node)
