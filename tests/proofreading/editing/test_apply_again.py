"""`ffn apply-edits` once more, of labels of another program that were touched."""

import os

import h5py
import numpy as np
import pytest

from ffn.cli import apply_edits
from ffn.proofreading.editing.apply import ObjectIds
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.volume import open_volume
from tests.proofreading.samples import merge


def read(spec):
    with open_volume(spec) as volume:
        return volume.read(volume.box)


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize('spec', ['corrected.h5:labels', 'precomputed://c'])
def test_labels_that_are_touched(tmp_path, monkeypatch, spec):
    """All is written anew; what was made of the corrected volume, such as a journal, stays about it."""
    monkeypatch.chdir(tmp_path)
    with h5py.File('v.h5', 'w') as file:
        file['labels'] = np.arange(3 * 4 * 5, dtype=np.uint64).reshape(3, 4, 5)
    with open_journal('edits.jsonl', ProofreadVolume('v.h5:labels').base) as journal:
        journal.add(merge(7, 9))
    call = ['--labels', 'v.h5:labels', '--edits', 'edits.jsonl', '--quiet', '--voxel_size=8,8,30']
    call += ['--output_volume', spec]
    apply_edits.main(call)
    before, stamp = read(spec), read_input_stamp(spec)
    with open_journal('next.jsonl', ProofreadVolume(spec).base) as journal:
        journal.add(merge(3, 5))
    os.utime('v.h5', (1, 1))
    with monkeypatch.context() as stopped:
        stopped.setattr(ObjectIds, 'read', stop)
        with pytest.raises(KeyboardInterrupt):
            apply_edits.main(call)
    if '://' in spec:
        with pytest.raises(UserError, match='is not complete'):
            read_input_stamp(spec)
    apply_edits.main(call)
    np.testing.assert_array_equal(read(spec), before)
    assert read_input_stamp(spec) == stamp
    assert len(ProofreadVolume(spec).read_journal('next.jsonl').edits) == 1
