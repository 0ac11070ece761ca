"""The decisions of an agglomeration."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.evaluation.run_report.joins import read_joins
from ffn.utils.errors import UserError

HEADER = 'id_a,id_b,distance,x,y,z,accepted,iou,note'
BIG = 2**64 - 2


def write(folder, *rows, header=HEADER):
    (folder / 'merges.csv').write_text('\n'.join([header, *rows]) + '\n')
    return folder


def test_decisions_and_examples(tmp_path):
    rows = [f'{i},{i + 1},3,{i},2,3,{int(i >= 60)},{i / 100:.4f},' for i in range(100)]
    found = read_joins(write(tmp_path, *rows, f'7,{BIG},1,4,5,6,0,,too close', '1,2,1,0,0,0,1,1,'))
    assert (found.accepted, found.rejected, found.not_scored) == (41, 61, 1)
    assert (sum(found.histogram_accepted), sum(found.histogram_rejected)) == (41, 60)
    assert np.flatnonzero(found.histogram_accepted)[0] == 12
    assert found.histogram_accepted[-1] == 6
    assert [d.score for d in found.weakest_accepted] == [0.6, 0.61, 0.62, 0.63, 0.64]
    assert [d.score for d in found.strongest_rejected] == [0.59, 0.58, 0.57, 0.56, 0.55]
    assert found.weakest_accepted[0].ids == (60, 61)
    assert found.weakest_accepted[0].at_xyz == (60, 2, 3)


def test_probabilities_count_before_overlaps(tmp_path):
    header = HEADER.replace('iou', 'iou,probability')
    found = read_joins(write(tmp_path, f'1,{BIG},3,4,5,6,1,0.9,0.25,', header=header))
    assert found.score == 'probability'
    assert found.weakest_accepted[0].score == 0.25
    assert found.weakest_accepted[0].ids == (1, BIG)
    assert found.as_json()['weakest_accepted'][0]['at_xyz'] == (4, 5, 6)


@pytest.mark.parametrize(
    ('header', 'row', 'message'),
    [
        ('a,b', '1,2', 'is no table of decisions: it has the columns a,b; expected id_a'),
        (HEADER, '1,2,3,4,5,6,yes,0.5,', "line 2: iou is '0.5' and accepted 'yes'"),
        (HEADER, '1,2,3,4,5,6,1,1.5,', "iou is '1.5'"),
        (HEADER, '1,2,3,x,5,6,1,0.5,', 'line 2: '),
        (HEADER, '1,2', 'line 2: '),
    ],
)
def test_other_tables_are_refused(tmp_path, header, row, message):
    with pytest.raises(UserError) as error:
        read_joins(write(tmp_path, row, header=header))
    assert message in str(error.value)
