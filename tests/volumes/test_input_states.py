"""Whether volumes of other programs were written anew, as runs record it."""

import json
import os
import zipfile

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.input_states import (
    RECORD,
    foreign_state,
    record_states,
    state_of,
    were_written_anew,
)
from ffn.volumes.opened_array import MADE_FROM
from ffn.volumes.provenance import read_input_stamp
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
    assert foreign_state(f'{tmp_path}/v.h5:imported') == ''


def test_damage_elsewhere_in_the_file(tmp_path):
    write(tmp_path / 'v.h5')
    write(tmp_path / 'v.h5', 'other/labels')
    start, mark, rest = (tmp_path / 'v.h5').read_bytes().rpartition(b'SNOD')
    (tmp_path / 'v.h5').write_bytes(start + mark.lower() + rest)
    with h5py.File(tmp_path / 'v.h5') as file, pytest.raises(RuntimeError):
        list(file['other'])
    assert 'v.h5 of ' in foreign_state(f'{tmp_path}/v.h5:labels')


@pytest.mark.parametrize(
    'name', ['v@2.h5:labels', 'v@2.h5:/labels', 'v@2.h5:in/labels#0', '{}/v@2.h5:/in/labels']
)
def test_however_a_dataset_is_named(tmp_path, monkeypatch, name):
    for dataset in ('labels', 'in/labels'):
        write(tmp_path / 'v@2.h5', dataset)
    monkeypatch.chdir(tmp_path)
    assert foreign_state(name.format(tmp_path)).startswith('v@2.h5 of ')


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('{}/group:/a', '.zarray'),
        ('{}/group/a#0', '.zarray'),
        ('zarr://{}/group:a#0', '.zarray'),
        ('{}/layer', 'header.wkw'),
        ('{}/layer@2', 'header.wkw'),
        ('wkw://{}:/layer', 'header.wkw'),
        ('{}/a.zip:/a', 'a.zip'),
        ('{{"driver": "zarr", "kvstore": "file://{}/", "path": "group/a"}}', '.zarray'),
        ('{{"driver": "zarr", "kvstore": "file://{}/group/a"}}', '.zarray'),
        ('{{"driver": "zarr", "kvstore": "file://{}/a.zip|zip:a/"}}', 'a.zip'),
    ],
)
def test_however_a_folder_is_named(tmp_path, name, file):
    for place in ('group/a/.zarray', 'layer/1/header.wkw', 'layer/2/header.wkw'):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text('{}')
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a/.zarray', '{"shape": [3, 4, 5]}')
    name = name.format(tmp_path)
    source = VolumeSource(tensorstore=name) if name.startswith('{') else VolumeSource(name)
    assert foreign_state(source).startswith(f'{file} of ')


@pytest.mark.parametrize('metadata', ['.zarray', 'attributes.json', 'header.wkw', 'info'])
def test_what_tells_a_folder_of_another_program(tmp_path, metadata):
    (tmp_path / 'v').mkdir()
    assert foreign_state(f'{tmp_path}/v') == ''
    (tmp_path / 'v' / metadata).write_text('{"dimensions": [7, 6, 5]}')
    os.utime(tmp_path / 'v' / metadata, (1, 1.25))
    expected = f'{metadata} of 25 bytes, written 1970-01-01T00:00:01.250000Z'
    assert foreign_state(f'{tmp_path}/v') == foreign_state(f'{tmp_path}:v') == expected
    if metadata == '.zarray':
        assert foreign_state(f'zarr://file://{tmp_path}/v') == expected
        local = f'{{"driver": "zarr", "kvstore": "file://{tmp_path}/v"}}'
        assert foreign_state(VolumeSource(tensorstore=local)) == expected
    assert foreign_state('zarr://http://localhost:1/v') == ''


@pytest.mark.parametrize('driver', ['cast', 'stack', 'downsample'])
def test_what_tensorstore_puts_together_is_not_known(tmp_path, driver):
    base = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': f'{tmp_path}/v'}}
    spec = {
        'cast': {'dtype': 'float32', 'base': base},
        'stack': {'layers': [base]},
        'downsample': {'downsample_factors': [2, 1, 1], 'downsample_method': 'mean', 'base': base},
    }
    source = VolumeSource(tensorstore=json.dumps({'driver': driver, **spec[driver]}))
    assert read_input_stamp(source) == foreign_state(source) == ''


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
