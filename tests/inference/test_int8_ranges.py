"""Finding, keeping and storing the ranges of precision int8."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import h5py
import pytest

from ffn.distributed.local_pools import InProcess
from ffn.inference import request_identity, storage
from ffn.inference.int8_ranges import settle
from ffn.inference.request import read_config
from ffn.inference.runner import Runner
from ffn.inference.worker_network import resolve
from ffn.models import int8
from ffn.utils.errors import UserError
from tests.calls import check_one_line
from tests.inference import flood
from tests.loaded import run_loaded

pytest.importorskip('openvino', reason='openvino is not installed')

BOX = 'start { x: 0 y: 0 z: 0 } size { x: 38 y: 26 z: 20 }'


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch):
    """OpenVINO rounds on any processor; only the time differs."""
    monkeypatch.setattr(int8, '_has_vnni', lambda: True)


@pytest.fixture
def config(flood_folder):
    (flood_folder / 'flood').unlink()
    flood.write_network(flood_folder)  # not that which other tests share
    config = read_config(flood.write_request(flood_folder))
    return dataclasses.replace(config, precision='int8').resolve()


def stored(folder: Path) -> list[Path]:
    return sorted((folder / 'flood').glob('*.int8-*.json'))


def test_they_are_found_once_and_kept_beside_the_checkpoint(config, flood_folder, monkeypatch):
    settled = settle(config)
    assert len(settled.int8_ranges) == 1  # one convolution is neither the first nor the last
    [path] = stored(flood_folder)
    assert tuple(json.loads(path.read_text())['ranges']) == settled.int8_ranges
    monkeypatch.setattr(int8, 'measure_ranges', None)
    assert settle(config) == settled
    assert settle(settled) is settled


def test_another_image_or_other_weights_have_their_own(config, flood_folder):
    settle(config)
    request = Path(flood_folder / 'request.pbtxt')
    request.write_text(request.read_text().replace('image_stddev: 127', 'image_stddev: 120'))
    settle(dataclasses.replace(read_config(str(request)), precision='int8').resolve())
    assert len(stored(flood_folder)) == 2
    coarser = request.read_text().replace(':raw"', ':raw" downsample { x: 1 y: 1 z: 2 }')
    request.write_text(coarser)
    settle(dataclasses.replace(read_config(str(request)), precision='int8').resolve())
    assert len(stored(flood_folder)) == 3


def test_a_damaged_file_is_one_line(config, flood_folder):
    settle(config)
    [path] = stored(flood_folder)
    path.write_text(path.read_text().replace('"ranges": [', '"ranges": [1.0,'))
    with pytest.raises(UserError, match=r'is damaged.*remove it') as caught:
        settle(config)
    assert '\n' not in str(caught.value)


def test_an_image_on_which_nothing_grows(flood_folder, config):
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        file['raw'][...] = 7
    with pytest.raises(UserError, match=r'nothing grew.*bfloat16') as caught:
        settle(config)
    assert '\n' not in str(caught.value)
    assert not stored(flood_folder)


def test_a_folder_that_cannot_be_written(config, flood_folder, monkeypatch, caplog):
    def denied(*args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('ffn.inference.int8_ranges.one_writer', denied)
    with caplog.at_level(logging.WARNING):
        assert settle(config).int8_ranges
    assert 'are not kept' in caplog.text
    assert not stored(flood_folder)


def test_results_say_which_and_are_told_apart_by_them(config, flood_folder):
    with Runner(config) as runner:
        assert runner.precision == 'int8'
        runner.run((0, 0, 0), (20, 26, 38))
        settled = runner.config
    path = storage.subvolume_path(flood_folder / 'results', (0, 0, 0), 'npz')
    request = request_identity.read_request(path)
    assert request.precision == 'int8'
    assert tuple(request.int8_ranges) == settled.int8_ranges
    assert request_identity.compare(resolve(config, InProcess()), {}, path) == ('', '')
    other = dataclasses.replace(settled, int8_ranges=(1.0,))
    assert 'int8_ranges' in request_identity.compare(other, {}, path).content


def test_new_weights_get_new_ranges(trained_folder):
    config = read_config(flood.write_request(trained_folder))
    config = dataclasses.replace(config, precision='int8')
    step = str(trained_folder / 'flood' / 'model.ckpt-{}')
    with Runner(dataclasses.replace(config, model_checkpoint_path=step.format(1))) as runner:
        before, executor = runner.config.int8_ranges, runner.executor
        runner.use_checkpoint(step.format(3))
        assert runner.executor is not executor
        assert len(runner.config.int8_ranges) == len(before)
    assert len(stored(trained_folder)) == 2


def test_a_network_that_is_given_is_refused(config):
    model = flood.make_network()
    with pytest.raises(UserError, match='loaded from a checkpoint'):
        Runner(config, model)


def test_as_a_user_calls_it(repository, flood_folder, config):
    assert config.model_checkpoint_path.startswith(str(flood_folder))
    script = repository / 'run_inference.py'
    arguments = ['--inference_request', flood_folder / 'request.pbtxt', '--bounding_box', BOX]
    done = run_loaded(flood_folder, script, *arguments, '--precision', 'int8')
    if re.search(r'\b(avx512_vnni|avx_vnni)\b', Path('/proc/cpuinfo').read_text()):
        assert done.returncode == 0, done.stderr
        assert stored(flood_folder)
        assert 'SavedModel' not in done.stderr
    else:
        check_one_line(done.returncode, done.stderr, 'VNNI', 'bfloat16')


def test_an_image_smaller_than_the_field_of_view_is_told(config, flood_folder):
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        image = file['raw'][:2]
        del file['raw']
        file['raw'] = image
    with pytest.raises(UserError, match='smaller than the field of view'):
        settle(config)
