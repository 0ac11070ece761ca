"""Runs that go on from a checkpoint, and checkpoints that are moved aside because they are of something else."""

import contextlib
import json
import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.inference import storage
from ffn.inference.core.canvas import Interrupted
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.models.checkpoints import CheckpointWriter
from tests.inference import flood
from tests.inference.test_runner import SIZE_ZYX, read_text, run


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def test_events_name_the_subvolume_and_the_step(folder, events):
    stop_at_step(folder, 3)
    [saved] = [event for event in events() if 'saved checkpoint' in event['message']]
    assert (saved['subvolume'], saved['step']) == ('2_1_0', 3)


def stop_at_step(folder, step, request=None):
    """Begins a box at x,y,z 2,1,0, or goes on with it, and stops after a step."""
    with Runner() as runner:
        runner.start(request or read_request(flood.write_request(folder)))

        @contextlib.contextmanager
        def on_canvas(canvas):
            def stop(canvas):
                if canvas.counters['predict-calls'] == step:
                    runner.stop.set()

            with canvas.observed_by(stop):
                yield

        runner.on_canvas = on_canvas
        with pytest.raises(Interrupted):
            runner.run((0, 1, 2), (20, 25, 36))


def test_a_damaged_checkpoint_is_moved_aside(folder, caplog):
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'cpoint')
    path.parent.mkdir(parents=True)
    path.write_bytes(b'PK\3\4 and nothing more')
    with caplog.at_level(logging.WARNING):
        canvas = run(folder)
    assert canvas.origins
    assert 'starts afresh' in caplog.text
    assert path.with_suffix('.cpoint.aside').exists()
    assert not path.exists()


def test_what_is_set_aside_is_kept(folder):
    """Two requests in turn, each stopped: neither loses what it has done."""
    saved = storage.subvolume_path(folder / 'results', (0, 0, 0), 'cpoint')
    made = []
    for policy in ('PolicyPeaks', 'PolicyGrid3d', 'PolicyPeaks', 'PolicyGrid3d'):
        with Runner() as runner:
            request = read_request(flood.write_request(folder))
            runner.start(read_text(request, f'seed_policy: "{policy}"'))
            runner.stop.set()
            with pytest.raises(Interrupted):
                runner.run((0, 0, 0), SIZE_ZYX)
        made.append(saved.read_bytes())
    aside = [saved.with_suffix(f'.cpoint.aside{i}') for i in ('', '2', '3')]
    assert [path.read_bytes() for path in aside] == made[:3]


def test_a_folder_of_weights_means_those_that_were_there_at_the_start(folder, caplog, tmp_path):
    """While training goes on, a resumed box must not continue with other weights."""
    shutil.copytree((folder / 'flood').resolve(), tmp_path / 'training')
    request = read_request(flood.write_request(folder))
    request.model_checkpoint_path = str(tmp_path / 'training')
    for step in (1, 2):
        with Runner() as runner:
            runner.start(request)
            runner.stop.set()
            caplog.clear()
            with caplog.at_level(logging.INFO), pytest.raises(Interrupted):
                runner.run((0, 0, 0), SIZE_ZYX)
        assert ('made with another request' in caplog.text) == (step == 2)
        CheckpointWriter(tmp_path / 'training').save(flood.make_network().named_variables(), 2)


def test_a_checkpoint_of_another_request_is_moved_aside(folder, caplog):
    """Its seeds and thresholds would be mixed with those of this one."""
    saved = storage.subvolume_path(folder / 'results', (0, 0, 0), 'cpoint')
    request = read_request(flood.write_request(folder))
    for change, goes_on in (('batch_size: 4', True), ('seed_policy: "PolicyGrid3d"', False)):
        with Runner() as runner:
            runner.start(request)
            runner.stop.set()
            with pytest.raises(Interrupted):
                runner.run((0, 0, 0), SIZE_ZYX)
        assert saved.exists()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run(folder, change)
        assert ('going on from' in caplog.text) == goes_on
        assert ('made with another request' in caplog.text) == (not goes_on)
        (folder / 'results' / '0' / '0' / 'seg-0_0_0.npz').unlink()
    assert saved.with_suffix('.cpoint.aside').exists()


@pytest.mark.parametrize('change', ['network', 'image', 'mask'])
def test_a_checkpoint_of_what_has_the_same_name_is_moved_aside(folder, caplog, tmp_path, change):
    """Two networks, or two versions of a volume, would be mixed in one result."""
    shutil.copytree((folder / 'flood').resolve(), tmp_path / 'training')
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['mask'] = np.zeros(SIZE_ZYX, np.uint8)
    hidden = f'mask {{ hdf5: "{folder}/volume.h5:mask" }} channels {{ values: 1 }}'
    request = read_text(
        read_request(flood.write_request(folder)), f'masks {{ volume {{ {hidden} }} }}'
    )
    request.model_checkpoint_path = f'{tmp_path}/training/model.ckpt-1'
    stop_at_step(folder, 3, request)
    if change == 'network':
        weights = flood.make_network().named_variables()
        weights['seed_update/conv_lom/biases'].assign_add([0.01])
        CheckpointWriter(tmp_path / 'training').save(weights, 1)
    else:
        with h5py.File(folder / 'volume.h5', 'a') as file:
            file['mask' if change == 'mask' else 'raw'][-1, -1, -1] = 1 if change == 'mask' else 9
    with caplog.at_level(logging.WARNING):
        stop_at_step(folder, 3, request)
    assert f'seg-2_1_0.cpoint was made with another {change}; ' in caplog.text
    caplog.clear()
    stop_at_step(folder, 6, request)
    assert 'was made with' not in caplog.text


def test_a_run_goes_on_where_its_folder_was_moved_to(folder, caplog, monkeypatch):
    """Also with files named from where they are, as by one command, or absolutely, as by another."""
    request = read_request(flood.write_request(folder))
    stop_at_step(folder, 3, request)
    shutil.move(folder / 'results', folder / 'moved')
    monkeypatch.chdir(folder)
    request.segmentation_output_dir, request.image.hdf5 = 'moved', 'volume.h5:raw'
    request.model_checkpoint_path = 'flood/model.ckpt-1'
    with caplog.at_level(logging.INFO):
        stop_at_step(folder, 6, request)
    assert 'going on from moved/2/1/seg-2_1_0.cpoint' in caplog.text
    request.inference_options.min_segment_size = 60
    stop_at_step(folder, 3, request)
    said = 'with another request: inference_options.min_segment_size is 50 there and 60 here; '
    assert said in caplog.text


@pytest.mark.parametrize('names', ['relative', 'absolute'])
def test_a_run_goes_on_where_all_of_it_was_moved_to(folder, caplog, monkeypatch, names):
    """What it reads is known by its content, so its names need not be those that they were."""
    monkeypatch.chdir(folder)
    histogram = np.bincount([1, 255], minlength=256)
    np.savez('histogram.npz', histogram=histogram)
    with h5py.File('volume.h5', 'a') as file:
        file['mask'] = np.zeros(SIZE_ZYX, np.uint8)
    more = 'masks { volume { mask { hdf5: "volume.h5:mask" } channels { values: 1 } } }'
    more += f'reference_histogram: "{folder}/histogram.npz"'
    text = Path(flood.write_request(folder)).read_text() + more
    if names == 'relative':
        text = text.replace(f'{folder}/', '')
    stop_at_step(folder, 3, read_request(text))
    moved = folder.rename(folder.with_name(f'{folder.name}_moved'))
    monkeypatch.chdir(moved)
    with caplog.at_level(logging.INFO):
        stop_at_step(moved, 6, read_request(text.replace(f'{folder}/', f'{moved}/')))
    assert 'results/2/1/seg-2_1_0.cpoint: 0 objects' in caplog.text
    assert 'with another request' not in caplog.text


@pytest.mark.parametrize('known', [True, False])
def test_a_path_that_is_another_counts_where_its_content_is_not_known(folder, caplog, known):
    """As in a checkpoint of an earlier version, which does not say what it was made from."""
    request = read_request(flood.write_request(folder))
    stop_at_step(folder, 3, request)
    shutil.copy(folder / 'volume.h5', folder / 'copy.h5')
    request.image.hdf5 = f'{folder}/copy.h5:raw'
    if not known:
        path = storage.subvolume_path(folder / 'results', (0, 1, 2), 'cpoint')
        with np.load(path, allow_pickle=True) as file:
            members = dict(file)
        state = json.loads(members['state'].item())
        del state['made_from']
        storage.save_npz(path, **{**members, 'state': json.dumps(state).encode()})
    with caplog.at_level(logging.INFO):
        stop_at_step(folder, 6, request)
    assert ('going on from' in caplog.text) == known
    assert ('with another request: image.hdf5 is' in caplog.text) == (not known)


def test_a_checkpoint_with_other_seeds_of_an_earlier_run_is_moved_aside(folder, caplog):
    run(folder, corner_zyx=(0, 1, 2), size_zyx=(20, 25, 36))
    shutil.move(folder / 'results', folder / 'one')
    (path,) = (folder / 'one').glob('2/1/*.npz')
    request = read_request(flood.write_request(folder))
    request.seed_policy = 'PolicyInvertOrigins'
    request.seed_policy_args = f'{{"segmentation_dir": "{folder}/one"}}'
    for step, said in ((3, ''), (6, 'going on from'), (3, 'was made with another earlier run; ')):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            stop_at_step(folder, step, request)
        assert said in caplog.text
        if step == 6:
            origins = storage.read_origins(path)
            labels = storage.read_labels(path)
            storage.save_result(folder / 'one', (0, 1, 2), labels, {1: origins[1]}, b'', {}, {})


@pytest.mark.parametrize('change', [None, 'ids', 'voxels'])
def test_a_checkpoint_of_another_init_segmentation_is_moved_aside(folder, caplog, change):
    """What it holds of these labels would be mixed with the ids that they have now."""
    given = np.where(flood.write_volume(folder) == 2, 7, 0)
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['given'] = given
    extra = f'init_segmentation {{ hdf5: "{folder}/volume.h5:given" }}'
    with Runner() as runner:
        runner.start(read_text(read_request(flood.write_request(folder)), extra))
        runner.stop.set()
        with pytest.raises(Interrupted):
            runner.run((0, 0, 0), SIZE_ZYX)
    if change == 'ids':
        given *= 2
    elif change == 'voxels':
        given[:, :, 20:] = 0
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['given'][...] = given
    with caplog.at_level(logging.INFO):
        canvas = run(folder, extra)
    assert ('going on from' in caplog.text) == (change is None)
    assert ('made with another init_segmentation' in caplog.text) == (change is not None)
    assert canvas.to_given_id[1] == given.max()
    np.testing.assert_array_equal(canvas.segmentation == 1, given > 0)
