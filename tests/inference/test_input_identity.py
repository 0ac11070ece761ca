"""Other content behind a name that stays the same: refused where it is certain, told where it may be a copy."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import h5py
import numpy as np
import pytest

from ffn.inference import inference_pb2, input_identity, request_identity, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.input_identity import claim, compare_inputs, find_alike, identify
from ffn.inference.serialization import freeze_request, serialize_request
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.utils.protos import parse_text
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.provenance import MANIFEST, read_claim

SHAPE = (5, 6, 7)
REQUEST = """
image {{ hdf5: "{v}:image" }}
init_segmentation {{ hdf5: "{v}:given" }}
masks {{ coordinate_expression {{ expression: "x > 3" }} }}
masks {{ volume {{ mask {{ hdf5: "{v}:mask" }} channels {{ values: 1 }} }} }}
seed_masks {{ volume {{ mask {{ hdf5: "{v}:seed_mask" }} channels {{ values: 1 }} }} }}
histogram_masks {{ volume {{ mask {{ hdf5: "{v}:ignored" }} channels {{ values: 1 }} }} }}
shift_mask {{ tensorstore: '{shifts}' }}
shift_mask_scale: 4
shift_mask_threshold: 1
reference_histogram: "{folder}/h.npz"
seed_policy_args: '{{"policies": [["PolicyInvertOrigins", {{"segmentation_dir": "{folder}/one"}}]]}}'
inference_options {{ init_activation: 0.95 pad_value: 0.05 move_threshold: 0.9 segment_threshold: 0.6 }}
"""
FIELDS = {
    'image': 'image',
    'given': 'init_segmentation',
    'mask': 'masks[1]',
    'seed_mask': 'seed_masks[0]',
    'ignored': 'histogram_masks[0]',
}


def write(path, name, value=0, stamped=True):
    """Writes a volume as an import does, or as another program would."""
    data = np.full(SHAPE, value, np.uint8)
    if stamped:
        with replaced_dataset(f'{path}:{name}') as (file, dataset):
            file.create_dataset(dataset, data=data)
        return
    with h5py.File(path, 'a') as file:
        file.pop(name, None)
        file[name] = data


def write_seeds(folder, *seeds, corner=(0, 1, 2), seconds=0.5):
    origins = {i: storage.OriginInfo(seed, 1, seconds) for i, seed in enumerate(seeds, 1)}
    storage.save_result(folder / 'one', corner, np.ones(SHAPE, np.uint8), origins, b'', {}, {})


@pytest.fixture
def config(tmp_path) -> InferenceConfig:
    for name in FIELDS:
        write(tmp_path / 'v.h5', name)
    (tmp_path / 'h.npz').write_bytes(b'counts')
    (tmp_path / 'shifts').mkdir()
    (tmp_path / 'shifts' / '.zarray').write_text('{}')
    write_seeds(tmp_path, (2, 3, 4), (1, 1, 1))
    store = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': f'{tmp_path}/shifts/'}}
    return make(tmp_path, REQUEST, json.dumps(store))


def make(folder, text, shifts='') -> InferenceConfig:
    text = text.format(v=folder / 'v.h5', folder=folder, shifts=shifts)
    return freeze_request(parse_text(text, inference_pb2.InferenceRequest(), 'request'))


def claim_again(folder, config, weights='W'):
    claim(folder / 'results', {'size': 3}, identify(config, weights), 'give another')


@pytest.mark.parametrize('name', [*FIELDS, 'histogram', 'network'])
def test_other_content_is_refused(tmp_path, config, caplog, name):
    field, weights = f'{FIELDS.get(name)}_made_from', 'W'
    claim_again(tmp_path, config)
    for other in FIELDS:
        write(tmp_path / 'v.h5', other)  # the same once more
    claim_again(tmp_path, config)
    if name == 'histogram':
        (tmp_path / 'h.npz').write_bytes(b'others')
        field = 'reference_histogram_sha256'
    elif name == 'network':
        field, weights = 'model_sha256', 'X'
    else:
        write(tmp_path / 'v.h5', name, 1)
    with pytest.raises(UserError, match='holds results of other inputs: ') as caught:
        claim_again(tmp_path, config, weights)
    assert f'{field} is ' in str(caught.value)
    assert not caplog.text


@pytest.mark.parametrize('name', ['image', 'mask', 'shifts'])
def test_what_other_programs_have_written_since_is_told(tmp_path, config, caplog, name):
    """It may be a copy, or have been touched: days of work do not depend on that."""
    for other in FIELDS:
        write(tmp_path / 'v.h5', other, stamped=False)
    claim_again(tmp_path, config)
    claim_again(tmp_path, config)
    assert not caplog.text
    path = tmp_path / ('shifts/.zarray' if name == 'shifts' else 'v.h5')
    os.utime(path, (1, 1))
    claim_again(tmp_path, config)
    field = {'image': 'image', 'mask': 'masks[1]', 'shifts': 'shift_mask'}[name]
    assert f'{field}_written is {path.name} of ' in caplog.text
    assert 'if it is not, remove them' in caplog.text


def test_an_output_in_the_file_of_the_image_is_no_other_image(tmp_path, config, caplog):
    """Nor is what was known of the image before forgotten."""
    for other in FIELDS:
        write(tmp_path / 'v.h5', other, stamped=False)
    claim_again(tmp_path, config)
    before = read_claim(tmp_path / 'results' / MANIFEST)
    write(tmp_path / 'v.h5', 'segmentation')
    claim_again(tmp_path, config)
    assert 'image_written' not in identify(config, 'W')
    assert read_claim(tmp_path / 'results' / MANIFEST) == before
    assert 'image_written' in before
    assert not caplog.text


def test_an_import_in_place_of_a_volume_of_another_program_is_refused(tmp_path, config):
    for other in FIELDS:
        write(tmp_path / 'v.h5', other, stamped=False)
    claim_again(tmp_path, config)
    write(tmp_path / 'v.h5', 'image')
    with pytest.raises(UserError, match=r'image_made_from is empty there and [0-9a-f]{64} here'):
        claim_again(tmp_path, config)


def test_a_volume_of_another_program_in_place_of_an_import_is_refused(tmp_path, config):
    claim_again(tmp_path, config)
    write(tmp_path / 'v.h5', 'image', stamped=False)
    with pytest.raises(UserError, match=r'image_made_from is [0-9a-f]{64} there and empty here'):
        claim_again(tmp_path, config)


def test_what_earlier_versions_did_not_record_does_not_count(tmp_path, config):
    inputs = identify(config, 'W')
    claim(tmp_path / 'results', {'size': 3, 'model_sha256': 'W'}, {}, 'give another')
    claim_again(tmp_path, config)
    assert compare_inputs({}, inputs) == ('', '')
    assert read_claim(tmp_path / 'results' / MANIFEST) == {'size': 3, **inputs}
    with pytest.raises(UserError, match='size is 3 there and 4 here'):
        claim(tmp_path / 'results', {'size': 4}, inputs, 'give another')


@pytest.mark.parametrize('stamped', [True, False])
def test_where_known_files_are_does_not_count_but_where_volumes_are_does(tmp_path, stamped):
    """Stamps of volumes travel with copies that are changed afterwards."""
    before, after = tmp_path / 'before', tmp_path / 'after'
    before.mkdir()
    for name in FIELDS:
        write(before / 'v.h5', name, stamped=stamped)
    (before / 'h.npz').write_bytes(b'counts')
    write_seeds(before, (2, 3, 4))
    claim_request(before)
    shutil.copytree(before, after)
    with pytest.raises(UserError, match=r'of other settings: .*request\.image\.hdf5 is ') as error:
        claim_request(after)
    assert 'reference_histogram' not in str(error.value)
    assert 'model_checkpoint_path' not in str(error.value)
    (after / 'h.npz').write_bytes(b'others')
    with pytest.raises(UserError, match=r'request\.(reference_histogram is|image)'):
        claim_request(after)


def test_what_neither_side_knows_is_not_the_same():
    assert find_alike({'model_sha256': 'a'}, {'model_sha256': 'a'}) == {'model_checkpoint_path'}
    for there, here in (
        ({}, {}),
        ({'model_sha256': ''}, {'model_sha256': ''}),
        ({'model_sha256': 'a'}, {}),
    ):
        assert not find_alike(there, here)


def claim_request(folder):
    config = make(folder, REQUEST.replace('shift_mask', '# shift_mask'))
    made_with = {'request': request_identity.result_fields(config)}
    claim(folder / 'results', made_with, identify(config, 'W'), 'give another')


def test_seeds_of_an_earlier_run_that_lies_elsewhere(tmp_path, config):
    """They are compared where they are known; a run whose seeds are not known must be where it was."""
    corner, labels = Zyx(0, 1, 2), np.ones(SHAPE, np.uint8)
    path = storage.subvolume_path(tmp_path / 'two', corner, 'npz')
    (tmp_path / 'moved').mkdir()
    shutil.copytree(tmp_path / 'one', tmp_path / 'moved' / 'one')
    there = f'{tmp_path}/one'
    moved = dataclasses.replace(
        config, seed_policy_args={'segmentation_dir': f'{tmp_path}/moved/one'}
    )
    config = dataclasses.replace(config, seed_policy_args={'segmentation_dir': there})
    request = serialize_request(config)
    for seeds in (request_identity.earlier_seeds(config, corner), {}):
        inputs = {**identify(config, 'W'), **seeds}
        storage.save_result(tmp_path / 'two', corner, labels, {}, request, {}, {}, inputs=inputs)
        request_identity.check_earlier_seeds(config, tmp_path / 'two', corner)
        changes = request_identity.compare(moved, identify(config, 'W'), path)
        if seeds:
            request_identity.check_earlier_seeds(moved, tmp_path / 'two', corner)
            assert changes == ('', '')
            continue
        said = f'seed_policy_args.segmentation_dir is {there} there and '
        assert said in changes.content
        with pytest.raises(
            UserError, match=r'segmentation_dir is .* is not known whether they are'
        ):
            request_identity.check_earlier_seeds(moved, tmp_path / 'two', corner)


def test_seeds_of_an_earlier_run_that_was_made_anew(tmp_path, config, monkeypatch):
    """Those of other subvolumes, how long it took, and a run that is not there any more do not count."""
    corner = Zyx(0, 1, 2)
    inputs = {**identify(config, 'W'), **request_identity.earlier_seeds(config, corner)}
    labels = np.ones(SHAPE, np.uint8)
    storage.save_result(tmp_path / 'two', corner, labels, {}, b'', {}, {}, inputs=inputs)
    path = storage.subvolume_path(tmp_path / 'two', corner, 'npz')

    def changes():
        return request_identity.compare(config, identify(config, 'W'), path)

    def nothing_is_read(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(input_identity, 'load_seeds', nothing_is_read)
        request_identity.check_earlier_seeds(config, tmp_path / 'two', corner)
        assert changes() == ('', '')
    write_seeds(tmp_path, (2, 3, 4), (1, 1, 1), seconds=0.7)
    write_seeds(tmp_path, (2, 2, 2), corner=(5, 1, 2))
    request_identity.check_earlier_seeds(config, tmp_path / 'two', corner)
    assert changes() == ('', '')
    (tmp_path / 'one').rename(tmp_path / 'away')
    request_identity.check_earlier_seeds(config, tmp_path / 'two', corner)
    assert changes() == ('', '')
    write_seeds(tmp_path, (2, 3, 4), (1, 1, 2))
    with pytest.raises(UserError, match='was made with other seeds than the earlier run'):
        request_identity.check_earlier_seeds(config, tmp_path / 'two', corner)
    assert changes().content.endswith('has other seeds now')
