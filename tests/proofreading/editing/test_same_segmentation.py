"""Tables of merges, of the segmentation that is proofread or of another one."""

import h5py
import numpy as np
import pytest

from ffn.proofreading.editing import same_segmentation
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.volumes.opened_array import MADE_FROM
from ffn.volumes.provenance import claim

BIG = 2**63 + 11
# Two that touch, and what is between these and a third one.
PAIRS = f'7,{BIG},0,19,3,4,1', f'9,{BIG},1.5,25,7,4,1', '7,9,1.5,8,7,4,0'


@pytest.fixture
def proofread(tmp_path, monkeypatch):
    """Gives what is proofread, whose volume was made from something."""
    labels = np.zeros((9, 20, 40), np.int64).astype(np.uint64)
    labels[2:7, 1:6, 1:20], labels[2:7, 1:6, 20:39], labels[2:7, 8:16] = 7, BIG, 9
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(same_segmentation, '_FARTHEST', 3)  # the volume is small

    def make(made_from, others=(), pairs=PAIRS, filled=True):
        there = labels.copy()
        for old, new in others:
            there[labels == old] = new
        if filled:  # by a segment that is near
            there[4, 6:8, 5:12] = 33
        with h5py.File('v.h5', 'w') as file:
            file['labels'] = there
            if made_from:
                file['labels'].attrs[MADE_FROM] = made_from
        (tmp_path / 'm.csv').write_text('\n'.join(['id_a,id_b,distance,x,y,z,accepted', *pairs]))
        return ProofreadVolume('v.h5:labels', 'm.csv')

    return make


def test_merges_of_another_segmentation_are_refused(proofread, tmp_path, caplog):
    claim(tmp_path, {'init_segmentation_made_from': 'abc'})
    assert proofread('abc', [(9, 5)]).base.made_from == 'abc'
    refused = pytest.raises(
        UserError, match=r'm\.csv is about another .*made from abc, and not from abd'
    )
    # Other ids, of which one is another's; one that was joined with another; none; nothing that is known.
    for others in ([(9, 7), (7, 9)], [(9, 7)], [(7, 0), (9, 0), (BIG, 0)]):
        with refused:
            _ = proofread('abd', others).base
    for pairs in ((), ('7,9,1.5,80,7,4,0',)):
        with refused:
            _ = proofread('abd', pairs=pairs).base
    assert not caplog.text
    # A copy, as `ffn fill` makes one.
    assert proofread('abd').base.made_from == 'abd'
    assert 'around 3 of the 3 places that were looked at' in caplog.text


@pytest.mark.parametrize('made_from', ['', 'abc'])
def test_merges_of_which_too_few_fit_are_refused(proofread, caplog, made_from):
    others = [(7, 4), (BIG, 5)]
    for fits in (0, 1):  # fewer than a tenth
        with pytest.raises(
            UserError, match=r'another segmentation than .*: around 21 of 2\d places'
        ):
            _ = proofread(made_from, others, [*PAIRS * 7, *['4,5,0,19,3,4,1'] * fits]).base
    assert not caplog.text
    assert proofread(made_from, others, [*PAIRS * 6]).base.joined  # too few to be sure
    assert proofread(made_from, others, [*PAIRS * 6, *['4,5,0,19,3,4,1'] * 2]).base.joined
    assert 'around 18 of 20 places' in caplog.text


def test_a_table_of_a_whole_of_which_the_volume_is_a_part(proofread, tmp_path, caplog):
    far = [f'{n},{n + 1},0,{40 + n},3,4,1' for n in range(50, 114)]
    assert proofread('', pairs=[*far, *PAIRS[:2]]).base.joined
    with pytest.raises(
        UserError, match=r'none of the 20 places of m\.csv lies in .* another volume'
    ):
        _ = proofread('', pairs=far[:20]).base
    assert not caplog.text
    assert proofread('', pairs=far[:19]).base.joined
    assert 'none of the 19 places of m.csv lies in ' in caplog.text
    assert 'whether the table is about it was not checked' in caplog.text
    with pytest.raises(UserError, match='around 21 of 21 places'):
        _ = proofread('', [(7, 4), (BIG, 5)], pairs=[*far, *PAIRS * 7]).base
    claim(tmp_path, {'init_segmentation_made_from': 'abc'})
    assert proofread('abd', pairs=[*far, *PAIRS[:2]]).base.joined
    assert 'around 2 of the 2 places that were looked at' in caplog.text


def test_a_few_places_may_not_fit(proofread, tmp_path):
    """Of 20, two, and of three, one: the nearest segments may be others than those of a pair."""
    claim(tmp_path, {'init_segmentation_made_from': 'abc'})
    far = '7,9,0,8,3,4,0'
    assert proofread('abd', pairs=[*PAIRS[:2], far]).base.joined
    with pytest.raises(UserError, match='another segmentation'):
        _ = proofread('abd', pairs=[PAIRS[0], far]).base
    assert proofread('abd', pairs=[*PAIRS * 6, far, far]).base.joined
    with pytest.raises(UserError, match='another segmentation'):
        _ = proofread('abd', pairs=[*PAIRS * 6, *[far] * 3][1:]).base


def test_distances_in_another_unit_fit(proofread, tmp_path, caplog):
    """Of a request in micrometres, or whose voxel size was not known."""
    claim(tmp_path, {'init_segmentation_made_from': 'abc'})
    assert proofread('abd', pairs=[one.replace(',1.5,', ',0.0015,') for one in PAIRS]).base.joined
    assert 'around 3 of the 3 places' in caplog.text


@pytest.mark.parametrize(
    ('others', 'told'),
    [([], ''), ([(9, 4)], 'around 2 of 3 places'), ([(7, 4), (BIG, 5)], 'around 3 of 3 places')],
)
@pytest.mark.parametrize('filled', [False, True])
def test_merges_that_do_not_fit_are_told(proofread, caplog, others, told, filled):
    for made_from in ('', 'abc'):  # without a record beside the table
        caplog.clear()
        assert proofread(made_from, others, filled=filled).base.joined
        assert told in caplog.text
        assert told or not caplog.text
