"""Whether volumes of other programs were written anew, as runs record it."""

import os

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.input_states import RECORD, record_states, state_of, were_written_anew
from ffn.volumes.opened_array import MADE_FROM
from ffn.volumes.volume import VolumeSource


def write(path, name='labels'):
    with h5py.File(path, 'a') as file:
        file[name] = np.ones((3, 4, 5), np.uint64)


def test_what_is_known_of_a_file(tmp_path):
    write(tmp_path / 'v.h5', 'in/labels')
    source = VolumeSource(f'{tmp_path}/v.h5:in/labels')
    first = state_of(source)
    assert list(first) == [source.name]
    assert 'v.h5 of ' in first[source.name]
    os.utime(tmp_path / 'v.h5', (1, 1.25))
    assert state_of(source) != first
    with h5py.File(tmp_path / 'v.h5', 'a') as file:  # an output of ours beside the labels
        file['in'].create_dataset('out', (3, 4, 5)).attrs[MADE_FROM] = 'x'
    assert state_of(source) == {}


def test_an_import_beside_the_labels(tmp_path):
    write(tmp_path / 'v.h5')
    with replaced_dataset(f'{tmp_path}/v.h5:imported') as (file, name):
        file[name] = np.ones((3, 4, 5), np.uint64)
    assert state_of(VolumeSource(f'{tmp_path}/v.h5:labels')) == {}


def test_only_what_is_known_of_both_counts(tmp_path):
    assert not were_written_anew(tmp_path, 'out', {'a': '1'})
    record_states(tmp_path, 'out', {'a': '1'})
    assert not were_written_anew(tmp_path, 'out', {'a': '1', 'b': '1'})
    assert not were_written_anew(tmp_path, 'other', {'a': '2'})
    assert were_written_anew(tmp_path, 'out', {'a': '2'})
    record_states(tmp_path, 'out', {'b': '1'})
    assert not were_written_anew(tmp_path, 'out', {})
    assert were_written_anew(tmp_path, 'out', {'a': '2', 'b': '1'})
    (tmp_path / RECORD).write_text((tmp_path / RECORD).read_text().replace('"1"', '"3"'))
    with pytest.raises(UserError, match='remove it, and run again'):
        were_written_anew(tmp_path, 'out', {'a': '1'})
