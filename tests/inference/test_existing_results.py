"""Results that are there already."""

import os
import shutil

import numpy as np
import pytest

from ffn.inference import storage
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.models.checkpoints import CheckpointWriter
from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import replaced_dataset
from tests.inference import flood
from tests.inference.test_runner import SIZE_ZYX, run


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def test_the_result_of_a_box_of_another_size_is_not_taken_for_this_one(folder):
    run(folder)
    told = 'exists with a size of x,y,z 38,26,20, and x,y,z 30,20,20 is asked for'
    with pytest.raises(UserError, match=told):
        run(folder, size_zyx=(20, 20, 30))


def test_the_result_of_another_request_is_told(folder, caplog):
    run(folder)
    assert run(folder, 'batch_size: 2 checkpoint_interval: 7') is None  # no result depends on these
    assert 'another request' not in caplog.text
    assert run(folder, segment_threshold=0.9) is None
    assert (
        'stays, but is the result of another request: inference_options.segment_threshold'
        in caplog.text
    )


@pytest.mark.parametrize('change', ['network', 'import', 'image'])
def test_the_result_of_other_inputs_is_told(folder, caplog, tmp_path, change):
    """Under the names that it was made with."""
    image = np.where(flood.write_volume(folder) > 0, 255, 1).astype(np.uint8)
    if change != 'image':  # not of another program
        with replaced_dataset(f'{folder}/volume.h5:raw') as (file, name):
            file[name] = image
    network = (folder / 'flood').resolve()
    (folder / 'flood').unlink()
    shutil.copytree(network, folder / 'flood')
    assert run(folder).origins
    assert run(folder) is None
    assert 'stays, but' not in caplog.text
    if change == 'network':
        weights = flood.make_network().named_variables()
        weights['seed_update/conv_lom/biases'].assign_add([0.01])
        CheckpointWriter(folder / 'flood').save(weights, 1)
    elif change == 'import':
        with replaced_dataset(f'{folder}/volume.h5:raw') as (file, name):
            file[name] = np.zeros(SIZE_ZYX, np.uint8)
    else:
        os.utime(folder / 'volume.h5', (1, 1))
    with Runner() as runner:
        runner.start(read_request(str(folder / 'request.pbtxt')))
        for _ in range(2):  # as if of two boxes
            assert runner.run((0, 0, 0), SIZE_ZYX) is None
    assert caplog.text.count('stays, but') == 1
    said = {
        'network': 'is the result of another request: model_sha256 is',
        'import': 'is the result of another request: image_made_from is',
        'image': 'may be the result of other inputs: image_written is volume.h5 of',
    }
    assert f'stays, but {said[change]}' in caplog.text


def test_a_result_of_an_earlier_version_counts(folder, caplog):
    run(folder)
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    with np.load(path, allow_pickle=True) as file:
        members = {name: file[name] for name in file.files if name != 'inputs'}
    np.savez(path, **members)
    assert run(folder) is None
    assert 'stays, but' not in caplog.text


def test_a_result_without_a_request_counts(folder):
    labels = np.zeros(SIZE_ZYX, np.uint8)
    storage.save_result(folder / 'results', (0, 0, 0), labels, {}, b'', {}, {})
    assert run(folder) is None
