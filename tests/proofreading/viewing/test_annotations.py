"""Places that a viewer marks: read from tables and scores, and as Neuroglancer reads them."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from ffn.agglomeration.candidates import Candidate, write_candidates
from ffn.agglomeration.evidence import scores_of
from ffn.agglomeration.merges import MergeDecision, write_decisions
from ffn.inference import resegmentation_pb2
from ffn.proofreading.viewing.annotation_source import AnnotationSource, shader
from ffn.proofreading.viewing.annotations import read_table
from ffn.proofreading.viewing.error_places import read_errors
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

LARGE = 2**64 - 2
MERGES = [
    MergeDecision(
        Candidate(3, LARGE, 1.5, Xyz(10, 20, 30)),
        scores_of(resegmentation_pb2.EvalResult(iou=0.75)),
        accepted=True,
    ),
    MergeDecision(Candidate(4, 5, 0, Xyz(-1, 2, 3)), None, accepted=False, note='too near'),
]


@pytest.fixture
def merges(tmp_path):
    write_decisions(tmp_path / 'merges.csv', MERGES)
    return read_table(tmp_path / 'merges.csv')


def test_merges(merges):
    np.testing.assert_array_equal(merges.points, [[10.5, 20.5, 30.5], [-0.5, 2.5, 3.5]])
    assert merges.relations == {'segments': [[3, LARGE], [4, 5]]}
    properties = {p.name: p for p in merges.properties}
    assert properties['accepted'].values.tolist() == [1, 0]
    assert properties['accepted'].values.dtype == np.uint8
    assert properties['accepted'].names == ('no', 'yes')
    np.testing.assert_array_equal(properties['iou'].values, np.float32([0.75, np.nan]))
    assert properties['note'].names == ('-', 'too near')
    assert merges.box.start == (-1, 2, 3)
    assert merges.box.size == (12, 19, 28)


def test_candidates(tmp_path):
    write_candidates(tmp_path / 'candidates.csv', [one.candidate for one in MERGES])
    found = read_table(tmp_path / 'candidates.csv')
    assert found.relations['segments'] == [[3, LARGE], [4, 5]]
    assert [p.name for p in found.properties] == ['distance']


@pytest.mark.parametrize(
    ('text', 'points', 'ids'),
    [
        ('x,y,z\n1,2,3\n\n4,5,6\n', [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]], None),
        ('1,2,3\n4,5,6\n', [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]], None),
        ('\ufeffz,y,x\n3,2.25,1\n', [[1, 2.25, 3]], None),
        ('x,y,z\n1,2,3\n4,5.5,6\n', [[1, 2, 3], [4, 5.5, 6]], None),
        ('id,x,y,z\n7.0,1,2,3\n8.,4,5,6\n', [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]], [[7], [8]]),
        ('segment,x,y,z\n7,1,2,3\n,4,5,6\n', [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]], [[7], []]),
        ('x,y,z\n', np.zeros((0, 3)), None),
    ],
)
def test_tables(tmp_path, text, points, ids):
    (tmp_path / 'points.csv').write_text(text)
    found = read_table(tmp_path / 'points.csv')
    np.testing.assert_array_equal(found.points, points)
    assert found.relations.get('segments') == ids


def test_columns(tmp_path, caplog):
    header = 'x,y,z,Iou,iou,IOU,iou_2,text\n'
    lines = [f'{n},2,3,nan,4,1e300,a,{n}th\n' for n in range(256)]
    lines[1] = '1,2,3,5.5,-inf,,b,1st\n'
    (tmp_path / 'notes.csv').write_text(header + ''.join(lines))
    found = {p.name: p for p in read_table(tmp_path / 'notes.csv').properties}
    assert list(found) == ['iou', 'iou_2', 'iou_3', 'iou_4']
    for name, numbers in (('iou', [4, np.nan]), ('iou_3', [np.nan, 5.5]), ('iou_4', [np.nan] * 2)):
        np.testing.assert_array_equal(found[name].values[:2], np.float32(numbers))
    assert found['iou_2'].names == ('a', 'b')
    assert 'notes.csv: the column text is not shown: it has more than 255 different' in caplog.text


@pytest.mark.parametrize(
    ('header', 'rows', 'values', 'names'),
    [
        ('accepted', ('1.0', '0.0'), [1, 0], ('no', 'yes')),
        ('accepted', (' 1', '0 '), [1, 0], ('no', 'yes')),
        ('accepted', ('True', 'False'), [1, 0], ('no', 'yes')),
        ('accepted', ('yes', 'no'), [1, 0], ('no', 'yes')),
        ('accepted', ('1.0', ''), [1, 2], ('no', 'yes', '-')),
        ('accepted', ('1.000000000000000000e+00', '0.00', '1e0'), [1, 0, 1], ('no', 'yes')),
        ('accepted', ('TRUE', 'FALSE', 'NA'), [1, 0, 2], ('no', 'yes', '-')),
        ('accepted', ('t', 'F', 'None', 'null'), [1, 0, 2, 2], ('no', 'yes', '-')),
        ('accepted', ('y', 'N', 'NaN'), [1, 0, 2], ('no', 'yes', '-')),
        ('Accepted,accepted', ('ann,1', 'bob,0'), [1, 0], ('no', 'yes')),
        ('accepted', ('accepted', 'rejected'), [0, 1], ('accepted', 'rejected')),
        ('accepted', ('0.5', '1'), [0.5, 1], ()),
    ],
)
def test_what_is_accepted(tmp_path, header, rows, values, names):
    lines = [f'x,y,z,{header}', *(f'1,2,3,{row}' for row in rows)]
    (tmp_path / 'places.csv').write_text('\n'.join(lines))
    found = read_table(tmp_path / 'places.csv')
    (accepted,) = [p for p in found.properties if p.name == 'accepted']
    assert (accepted.values.tolist(), accepted.names) == (values, names)
    # Numbers that stand for other words, or that are no whole ones, do not say which places are accepted.
    assert ('prop_accepted' in shader(found)) == (names[:2] == ('no', 'yes'))


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('', 'expected x, y and z'),
        ('a,b\n1,2\n', 'expected x, y and z'),
        ('x,y,z,x\n1,2,3,4\n', 'each name once'),
        ('x,y,z\n1,2\n', r'line 2: 2 values; expected 3'),
        ('x,y,z\n1,2,nan\n', 'no place'),
        ('x,y,z\n1,2,1e300\n', 'no place'),
        ('x,y,z\n1,2,three\n', 'could not convert'),
        ('id,x,y,z\n-1,2,3,4\n', '-1 is no id'),
        ('id,x,y,z\n18446744073709551616,2,3,4\n', 'is no id'),
        ('id,x,y,z\n1.5,2,3,4\n', '1.5 is no id'),
        ('id,x,y,z\n9007199254740993.0,2,3,4\n', 'is no id'),  # which may have been rounded
        ('id,x,y,z\nten,2,3,4\n', 'ten is no id'),
        ('x,y,z\n' + '1' * 200000 + ',2,3\n', 'no table'),
    ],
)
def test_other_tables_are_refused(tmp_path, text, why):
    (tmp_path / 'points.csv').write_text(text)
    with pytest.raises(UserError, match=rf'points\.csv.*{why}'):
        read_table(tmp_path / 'points.csv')


def test_as_neuroglancer_reads_them(merges):
    source = AnnotationSource(merges, (4, 8, 16))
    info = json.loads(source.read('info'))
    assert info['dimensions'] == {'x': [4e-9, 'm'], 'y': [8e-9, 'm'], 'z': [16e-9, 'm']}
    assert info['lower_bound'] == [-0.5, 2.5, 3.5]
    kinds = [(p['id'], p['type']) for p in info['properties']]
    assert kinds[0][1] == 'float32'
    assert kinds[-1][1] == 'uint8'  # larger types come first
    assert info['relationships'] == [{'id': 'segments', 'key': 'of_segments'}]

    whole = source.read('spatial0/0_0_0')
    (count,) = struct.unpack('<Q', whole[:8])
    size = (len(whole) - 8) // count - 8
    assert size % 4 == 0
    first = struct.unpack('<3f', whole[8:20])
    assert first == (10.5, 20.5, 30.5)
    assert struct.unpack('<2Q', whole[-16:]) == (0, 1)
    iou = [name for name, _ in kinds].index('iou')
    assert struct.unpack_from('<f', whole, 20 + 4 * iou) == (0.75,)

    one = source.read('by_id/0')
    assert one[:size] == whole[8 : 8 + size]
    assert struct.unpack('<I2Q', one[size:]) == (2, 3, LARGE)
    of = source.read(f'of_segments/{LARGE}')
    assert of == struct.pack('<Q', 1) + whole[8 : 8 + size] + struct.pack('<Q', 0)
    assert source.read('of_segments/99') == struct.pack('<Q', 0)
    for path in ('', 'by_id/2', 'by_id/x', 'of_truth/3', 'spatial0/1_0_0', 'by_id/' + '9' * 40):
        assert source.read(path) is None
    assert 'prop_accepted' in shader(merges)


def test_no_places(tmp_path):
    (tmp_path / 'points.csv').write_text('x,y,z\n')
    source = AnnotationSource(read_table(tmp_path / 'points.csv'), (1, 1, 1))
    assert source.read('spatial0/0_0_0') == struct.pack('<Q', 0)
    json.loads(source.read('info'))


SCORES = {
    'splits': [
        {
            'id': LARGE,
            'voxels': 1200,
            'bits': 0.1,
            'number': 6,
            'pieces': [
                {'id': 5, 'voxels': 900, 'at_xyz': [1, 1, 1]},
                {'id': 0, 'voxels': 1, 'at_xyz': [1, 1, 1]},
            ],
            'at_xyz': [7, 8, 9],
        }
    ],
    'mergers': [
        {
            'id': 5,
            'voxels': 10,
            'bits': 0.1,
            'number': 2,
            'pieces': [{'id': 1}, {'id': 2}],
            'at_xyz': [1, 2, 3],
        }
    ],
    'missing': [{'id': 9, 'voxels': 30, 'missing': 20, 'at_xyz': [4, 5, 6]}],
}


def test_errors_of_an_evaluation(tmp_path):
    (tmp_path / 'scores.json').write_text(json.dumps(SCORES))
    found = read_errors(tmp_path / 'scores.json')
    np.testing.assert_array_equal(found.points, np.add([[7, 8, 9], [1, 2, 3], [4, 5, 6]], 0.5))
    assert found.relations == {
        'truth': [(LARGE,), (1, 2), (9,)],
        'segments': [(5,), (5,), ()],
    }
    assert found.descriptions == (
        f'object {LARGE} is split into 6 segments (1,200 voxels)',
        'segment 5 merges 2 objects (10 voxels)',
        'object 9 is missing, 20 voxels (30 voxels)',
    )


def test_differences_of_a_comparison(tmp_path):
    case = SCORES['splits'][0]
    (tmp_path / 'compared.json').write_text(json.dumps({'cut_in_b': [case], 'joined_in_b': []}))
    found = read_errors(tmp_path / 'compared.json')
    assert found.relations == {'a': [(LARGE,)], 'b': [(5,)]}


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ({'scores': {}}, 'lists no errors'),
        ({'splits': [{'id': 1}]}, 'splits holds an error'),
        ({'splits': 3}, 'splits holds an error'),
        ({'missing': [{**SCORES['missing'][0], 'id': -1}]}, 'missing holds an error'),
        ({'missing': [{**SCORES['missing'][0], 'id': 2**64}]}, 'missing holds an error'),
        ({'missing': [{**SCORES['missing'][0], 'at_xyz': [1, 2]}]}, 'missing holds an error'),
        (
            {'missing': [{**SCORES['missing'][0], 'at_xyz': [1, 2, 1e400]}]},
            'missing holds an error',
        ),
    ],
)
def test_other_scores_are_refused(tmp_path, change, why):
    (tmp_path / 'scores.json').write_text(json.dumps(change))
    with pytest.raises(UserError, match=rf'scores\.json.*{why}'):
        read_errors(tmp_path / 'scores.json')
