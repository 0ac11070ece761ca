"""Expressions agree with NumPy; everything that is none is refused and has no effect."""

from __future__ import annotations

import operator
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.utils.errors import UserError
from ffn.volumes.expression import FUNCTIONS, evaluate


def variables() -> dict[str, np.ndarray]:
    """Sparse index arrays of different lengths, as masks use them."""
    z, y, x = np.meshgrid(
        np.arange(-2, 4), np.arange(5), np.arange(10, 17), indexing='ij', sparse=True
    )
    return {'x': x, 'y': y, 'z': z}


XYZ = variables()
X, Y, Z = XYZ.values()

# Written as Python, these mean the same to NumPy.
PLAIN = [
    'x', ' z ', '7', '-1.5', 'True', '1_000', '0x10', '1e-3', '+x - -y', 'x + y * z', '(x + y) * z',
    'x - y - z', 'x / (y + 1)', 'x // 3', 'z // 3', 'z % 3', 'x % -4', 'y ** 2', '2 ** y', 'y ** 0.5',
    '-y ** 2', '2.0 ** -y', 'x ** 3 ** 2', 'x < 12', 'x <= 12', '12 > x', 'x >= y', 'x == 12',
    'x != 12', '(x > 12) & (y < 3) | ~(z == 0)', '(x > 12) ^ (y > 2)', 'x & 3', 'x | 1', 'x ^ 5', '~z',
    '(x > 12) + (y > 2)', '(x\n + y)',
    'np.abs(z)', 'np.sqrt(x)', 'np.square(z)', 'np.floor(x / 3)', 'np.ceil(x / 3)', 'np.sign(z)',
    'np.sin(x)', 'np.cos(x)', 'np.tan(x)', 'np.arctan2(y, x)', 'np.hypot(x - 12, y) < 3',
    'np.exp(z)', 'np.log(x)', 'np.minimum(x, y * 4)', 'np.maximum(x, y * 4)', 'np.clip(x, 12, y + 12)',
    'np.mod(z, 3)', 'np.where(x > 12, y, z)', 'np.logical_and(x > 12, y)', 'np.logical_or(z, y > 3)',
    'np.logical_not(z)', 'np.logical_xor(z, y)', 'abs(z)', 'np.abs(np.abs(z) - np.square(y))',
]  # fmt: skip

# What Python refuses for arrays is element-wise here.
ELEMENTWISE = {
    'x > 12 and y < 3': (X > 12) & (Y < 3),
    'x > 12 or y < 3 and z': (X > 12) | (Y < 3) & (Z != 0),
    'not z': Z == 0,
    '11 < x <= 14': (X > 11) & (X <= 14),
    '0 < y < x != z + 12': (Y > 0) & (Y < X) & (X != Z + 12),
    'sqrt(x) + hypot(x, y)': np.sqrt(X) + np.hypot(X, Y),
    'numpy.where(z, x, y)': np.where(Z, X, Y),
    'x // 0': np.zeros_like(X),
    'x / 0': np.full(X.shape, np.inf),
    '1 / 0 > x': np.full(X.shape, True),
}


@pytest.mark.parametrize('text', PLAIN)
def test_agrees_with_numpy(text):
    expected = eval(text.strip(), {'np': np}, variables())
    value = evaluate(text, variables())
    np.testing.assert_array_equal(value, expected)
    assert np.asarray(value).dtype == np.asarray(expected).dtype
    assert np.shape(value) == np.shape(expected)


@pytest.mark.parametrize(('text', 'expected'), ELEMENTWISE.items())
def test_element_wise_where_python_is_not(text, expected):
    np.testing.assert_array_equal(evaluate(text, variables()), expected)


@pytest.mark.parametrize(
    'text',
    [
        'x < 2**70', '(x - 5000)**6 > 10**21', 'x**2 * 10**15 * 10**15 > 0', '-(2**62) - 2**62 - 2**62 < z',
        'np.square(2**32 + 0 * x) > 0', 'y + (2**62 + 2**62) > 0',
    ],
)  # fmt: skip
def test_integers_that_outgrow_their_type_are_not_wrapped(text):
    """All of these hold everywhere."""
    assert np.all(evaluate(text, variables()))


@pytest.mark.parametrize('text', ['(x - 5000)**5', '(x + 2**50) * 1000 + y', '2**62 + x'])
def test_integers_stay_exact_as_long_as_their_type_holds_them(text):
    x, y, z = (value.astype(object) for value in (X, Y, Z))
    expected = eval(text, {'x': x, 'y': y, 'z': z})
    value = evaluate(text, variables())
    assert value.dtype == np.int64
    assert (value == expected).all()


def test_every_function_is_in_the_tables():
    text = ' '.join([*PLAIN, *ELEMENTWISE])
    assert not [name for name in FUNCTIONS if f'{name}(' not in text]


BINARY = {
    '+': operator.add,
    '-': operator.sub,
    '*': operator.mul,
    '//': operator.floordiv,
    '%': operator.mod,
    '&': operator.and_,
    '|': operator.or_,
    '^': operator.xor,
}
PAIRS = {'np.minimum': np.minimum, 'maximum': np.maximum, 'numpy.mod': np.mod}
leaves = st.sampled_from([*XYZ.items()]) | st.integers(0, 15).map(lambda n: (str(n), np.int64(n)))


@st.composite
def larger(draw, parts):
    """Joins (text, value) pairs; values are computed along with the text."""
    (a, left), (b, right) = draw(parts), draw(parts)
    with np.errstate(all='ignore'):
        match draw(st.sampled_from(['binary', 'pair', 'minus', 'invert', 'where'])):
            case 'binary':
                sign = draw(st.sampled_from(sorted(BINARY)))
                return f'({a} {sign} {b})', BINARY[sign](left, right)
            case 'pair':
                name = draw(st.sampled_from(sorted(PAIRS)))
                return f'{name}({a}, {b})', PAIRS[name](left, right)
            case 'minus':
                return f'(-{a})', -left
            case 'invert':
                return f'(~{a})', ~left
            case 'where':
                return f'np.where({a} < {b}, {a}, {b})', np.where(left < right, left, right)


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves, larger, max_leaves=12))
def test_random_arithmetic(problem):
    text, expected = problem
    given_variables = variables()
    np.testing.assert_array_equal(evaluate(text, given_variables), expected)
    for name, value in given_variables.items():
        np.testing.assert_array_equal(value, XYZ[name])


HOSTILE = [
    # Anything that is named but x, y, z and the functions.
    'open', 'open("FILE", "w")', '__import__("os").mkdir("FILE")', 'eval("x")', 'exec("x")', 'print(x)',
    'np', 'w', '__builtins__', '__name__', 'globals()', 'np.save("FILE", x)', 'np.fromfile("FILE")',
    'np.load("FILE")', 'np.sum(x)', 'np.ones(9)', 'np.abs.outer(x, x)', 'np.linalg.norm(x)', 'os.abs(x)',
    # Ways from a value to others.
    'x.real', 'x.tofile("FILE")', 'x.__class__', '().__class__.__base__', '(1).__class__', 'x.abs(y)',
    'np.abs.__class__', 'np.abs(x).dtype', 'np.abs.reduce(x)', 'x[0]', 'x[:]', 'np["abs"]', 'x(1)',
    '(np.abs)(x)(y)', 'np.abs(x)(y)', '(lambda: x)()', '(x > 1)(y)',
    # Other syntax.
    'lambda: 0', '[v for v in x]', '{v for v in x}', '(v for v in x)', '{x: y}', '[x]', '{1}', '(x, y)',
    'x, y', '()', 'f"{x}"', '"a"', '"a" * 9', 'b"a"', 'x == "a"', 'None', '...', '1j', 'x if y else z',
    'x in y', 'x is y', 'x << 60', 'x >> 1', 'x @ y', '(x := 1)', 'abs(*x)', '*x', 'abs(**x)',
    'np.abs(x, out=x)', 'np.clip(x, a_min=1, a_max=2)', 'np.where(condition=x)', 'await x', 'yield x',
    # No expressions, or more than one.
    '', ' ', 'x = 1', 'x; y', 'x\ny', 'import os', 'del x', 'x +', '(x', 'x)', 'x y', '1x', '#x', 'x\0',
    '\ud800',
    # What NumPy refuses.
    '~1.5', '-(x > 1)', 'x ** -1', 'x & 0.5', 'np.abs()', 'np.hypot(x)', 'np.clip(x, 1)',
    'np.where(x, y)',
    'np.square(x, x)', 'np.minimum(x, 3, x)', 'np.clip(x, 12, 13, x)', 'np.where(x)', 'np.clip(x)',
]  # fmt: skip


@pytest.mark.parametrize('text', HOSTILE)
def test_anything_else_is_refused_and_has_no_effect(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given_variables = variables()
    with pytest.raises(UserError, match=r'^coordinate expression '):
        evaluate(text, given_variables)
    assert not list(tmp_path.iterdir())
    assert given_variables.keys() == XYZ.keys()
    for name, value in given_variables.items():
        np.testing.assert_array_equal(value, XYZ[name])


def test_the_message_names_what_is_refused_and_what_is_known():
    with pytest.raises(UserError) as caught:
        evaluate('x > 1 and w.real > 2', variables())
    message = str(caught.value)
    assert message.startswith(
        "coordinate expression 'x > 1 and w.real > 2' uses 'w.real'; known are"
    )
    assert 'numbers, x, y, z, arithmetic' in message
    assert 'np.{abs,sqrt,' in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize('text', ['9007199254740993', '1e16', '-1e16', '1e999', '9' * 5000])
def test_numbers_that_doubles_cannot_count_are_refused(text):
    with pytest.raises(UserError, match=r'beyond 2|cannot be read'):
        evaluate(f'x < {text}', variables())


LARGE = """
import numpy as np
from ffn.utils.errors import UserError
from ffn.volumes.expression import evaluate

for text in ('9**9**9', '(x**99999)', 'x**99999**9', '9.0**9**9', '7**x**x**x', '2**53*2**53*x'):
    value = np.asarray(evaluate(text, {'x': np.arange(6)}))
    print(text, value.dtype, value.size)
for text in ('('*500 + 'x' + ')'*500, '-'*50000 + 'x', '+'.join('x'*50000), 'not '*50000 + 'x',
             '+'.join('x'*1500), 'abs('*5000 + 'x' + ')'*5000, '9'*100000):
    try:
        evaluate(text, {'x': np.arange(6)})
        print(text[:9], 'value')
    except UserError:
        print(text[:9], 'refused')
"""


def test_large_powers_and_deep_expressions_end_at_once(repository):
    """Numbers are NumPy's, floats beyond 64 bits: no power takes memory or time."""
    shown = subprocess.run(
        [sys.executable, '-c', LARGE],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert shown.stdout.splitlines() == [
        '9**9**9 float64 1',
        '(x**99999) float64 6',
        'x**99999**9 float64 6',
        '9.0**9**9 float64 1',
        '7**x**x**x float64 6',
        '2**53*2**53*x float64 6',
        '((((((((( refused',
        '--------- refused',
        'x+x+x+x+x refused',
        'not not n refused',
        'x+x+x+x+x refused',
        'abs(abs(a refused',
        '999999999 refused',
    ]
    assert shown.stderr == ''
