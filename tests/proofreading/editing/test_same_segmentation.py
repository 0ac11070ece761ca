"""Tables of merges, of the segmentation that is proofread or of another one."""

import h5py
import numpy as np
import pytest

from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.volumes.opened_array import MADE_FROM
from ffn.volumes.provenance import claim

BIG = 2**63 + 11


@pytest.fixture
def proofread(tmp_path, monkeypatch):
    """Gives what is proofread, whose volume was made from something."""
    labels = np.zeros((9, 20, 40), np.int64).astype(np.uint64)
    labels[2:7, 1:6, 1:20], labels[2:7, 1:6, 20:39], labels[2:7, 8:16] = 7, BIG, 9
    monkeypatch.chdir(tmp_path)

    def make(made_from, ids=(7, BIG), places=('0,19,3,4,1', '2,8,7,4,0', '0,25,3,4,0')):
        with h5py.File('v.h5', 'w') as file:
            file['labels'] = labels
            if made_from:
                file['labels'].attrs[MADE_FROM] = made_from
        # Touching in the middle; apart, so that the place is in neither; in the second one.
        rows = [f'{ids[0]},{ids[1]},{at}' for at in places]
        (tmp_path / 'm.csv').write_text('\n'.join(['id_a,id_b,distance,x,y,z,accepted', *rows]))
        return ProofreadVolume('v.h5:labels', 'm.csv')

    return make


def test_merges_of_another_segmentation_are_refused(proofread, tmp_path, caplog):
    claim(tmp_path, {'init_segmentation_made_from': 'abc'})
    assert proofread('abc', (7, 9)).base.made_from == 'abc'
    refused = pytest.raises(
        UserError, match=r'm\.csv is about another .*made from abc, and not from abd'
    )
    with refused:
        _ = proofread('abd', (7, 9)).base
    with refused:
        _ = proofread('abd', places=('2,8,7,4,0',)).base  # no segment is there
    with refused:
        _ = proofread('abd', places=()).base
    assert not caplog.text
    # A copy, as `ffn fill` makes one.
    assert proofread('abd').base.made_from == 'abd'
    assert 'of the 3 places that were looked at, none' in caplog.text


@pytest.mark.parametrize(
    ('ids', 'told'),
    [((7, BIG), ''), ((7, 9), 'of 3 places that were looked at, 1 have other'), ((3, 9), '2 have')],
)
def test_merges_that_do_not_fit_are_told(proofread, caplog, ids, told):
    for made_from in ('', 'abc'):  # without a record beside the table
        caplog.clear()
        assert proofread(made_from, ids).base.joined
        assert told in caplog.text
        assert told or not caplog.text
