"""SWC files as programs for tracing write them, and mistakes in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.evaluation.swc import read_swc
from ffn.utils.errors import UserError

SWC = """# id type x y z radius parent
1 2 10 20 40 1 -1
2 2 30 20 40 1 1

7 2 30 20 80 1 2  # ids need not be in a row
"""


def write(tmp_path, text, name='a.swc'):
    (tmp_path / name).write_text(text, encoding='utf-8')
    return tmp_path / name


def test_swc(tmp_path):
    nodes, edges = read_swc(write(tmp_path, SWC))
    assert nodes.tolist() == [[10, 20, 40], [30, 20, 40], [30, 20, 80]]
    assert edges.tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize(
    ('text', 'edges'),
    [
        ('1 3 5 5 5 1 0\n2 3 5 6 15 1 1\n', [[1, 0]]),
        ('0 3 5 5 5 1 -1\n1 3 5 6 15 1 0\n', [[1, 0]]),
        ('\ufeff1 3 5 5 5 1 -1\n2 3 5 6 15 1 1\n', [[1, 0]]),
        ('1.0 3 5 5 5 1 -1.0\n2.000e+00 3 5 6 15 1 1.\n', [[1, 0]]),
        ('2 soma 5 6 15 NA 1\n1 3 5 5 5 NA -1 9 more\n', [[0, 1]]),
        ('1 3 5 5 5 1 -1\r\n2 3 5 6 15 1 -1\r\n', []),
    ],
    ids=['Vaa3D', 'from 0', 'byte order mark', 'written as floats', 'unused columns', 'two roots'],
)
def test_dialects(tmp_path, text, edges):
    nodes, found = read_swc(write(tmp_path, text))
    assert sorted(nodes.tolist()) == [[5, 5, 5], [5, 6, 15]]
    assert found.tolist() == edges


@settings(max_examples=20, deadline=None)
@given(first=st.sampled_from([2**8, 2**16, 2**31, 2**32, 2**53, 2**63, 2**64 - 2]))
def test_ids_are_read_exactly(tmp_path_factory, first):
    """Neighbours, the child before its parent."""
    text = f'{first + 1} 3 5 5 15 1 {first}\n{first} 3 5 5 5 1 -1\n'
    nodes, edges = read_swc(write(tmp_path_factory.mktemp('ids'), text))
    assert (len(nodes), edges.tolist()) == (2, [[0, 1]])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_forest_is_read_whatever_the_order_of_its_nodes(tmp_path_factory, data):
    count = data.draw(st.integers(1, 9))
    parents = [data.draw(st.integers(-1, i - 1)) for i in range(count)]
    order = data.draw(st.permutations(range(count)))
    names = range(3, count + 3)
    lines = [
        f'{names[i]} 2 {i} 0 0 1 {names[parents[i]] if parents[i] >= 0 else -1}' for i in order
    ]
    nodes, edges = read_swc(write(tmp_path_factory.mktemp('forest'), '\n'.join(lines)))
    assert nodes[:, 0].tolist() == list(order)
    found = {(int(nodes[a, 0]), int(nodes[b, 0])) for a, b in edges}
    assert found == {(i, parent) for i, parent in enumerate(parents) if parent >= 0}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('1 2 10 20\n', "line 1: '1 2 10 20'; expected id type x y z radius parent, with an"),
        ('# a\n1 2 x 20 1 1 -1\n', 'line 2'),
        ('# nothing\n', 'holds no node'),
        ('7 0 0 0 0 1 -1\n\n7 0 0 0 0 1 -1\n', 'line 3: node 7 is there already, in line 1'),
        ('1 0 0 0 0 1 -1\n2 0 0 0 0 1 9\n', 'line 2: node 2 has parent 9, which is not there'),
        ('1 0 0 0 0 1 0\n0 0 0 0 0 1 9\n', 'node 0 has parent 9'),
        ('1 0 0 nan 0 1 -1\n', "line 1: '1 0 0 nan 0 1 -1'; expected .* and a finite position"),
        ('1 0 0 0 1e999 1 -1\n', 'line 1: .*an id of 0 or more and a finite position'),
        ('1.5 0 0 0 0 1 -1\n', 'expected id type'),
        ('nan 0 0 0 0 1 -1\n', 'expected id type'),
        ('1e99999999 0 0 0 0 1 -1\n', 'expected id type'),
        ('-3 0 0 0 0 1 -1\n', 'line 1: .*with an id of 0 or more'),
        (
            '1 0 0 0 0 1 1\n',
            r'node 1 is its own ancestor; expected trees, whose roots have parent -1',
        ),
        (
            '9 0 0 0 0 1 -1\n1 0 0 0 0 1 2\n5 0 0 0 0 1 2\n2 0 0 0 0 1 3\n3 0 0 0 0 1 2\n',
            'node [23] is its own ancestor',
        ),
    ],
)
def test_mistakes(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_swc(write(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_swc(tmp_path / 'none.swc')


def test_another_encoding_is_no_swc(tmp_path):
    (tmp_path / 'a.swc').write_bytes('1 3 5 5 5 1 -1\n'.encode('utf-16'))
    with pytest.raises(UserError, match=r'a.swc, line 1: .*expected id type x y z radius parent'):
        read_swc(tmp_path / 'a.swc')


def test_positions_are_float64(tmp_path):
    nodes, _ = read_swc(write(tmp_path, '1 0 16777217 0 0.1 1 -1\n'))
    assert nodes.dtype == np.float64
    assert nodes.tolist() == [[16777217, 0, 0.1]]
