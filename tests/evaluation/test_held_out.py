"""Scoring of checkpoints on a box that training has not seen."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.evaluation import held_out_box
from ffn.evaluation.held_out_box import HeldOutBox, checkpoint_names
from ffn.evaluation.held_out_score import HEADER, HeldOutScore, Segmented
from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import voi_score
from ffn.inference import inference_pb2
from ffn.inference.request import parse_request, read_request
from ffn.inference.runner import Runner
from ffn.models import predictor
from ffn.models.checkpoints import CheckpointWriter
from ffn.models.model import FFNModel
from ffn.models.saved_settings import write_settings
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.inference import flood

BOX = Box(Xyz(2, 0, 1), Xyz(36, 26, 19))


@pytest.fixture
def folder(trained_folder):
    return trained_folder


def step(folder: Path, number: int) -> str:
    return str(folder / 'flood' / f'model.ckpt-{number}')


def make(folder, box=BOX, labels='volume.h5:labels', **options) -> HeldOutBox:
    request = parse_request(flood.write_request(folder))
    return HeldOutBox(request, f'{folder}/{labels}', box, **options)


def without_time(score: HeldOutScore) -> HeldOutScore:
    assert score.seconds > 0
    return dataclasses.replace(score, seconds=0)


def files(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob('*'))


def test_it_scores_what_inference_makes_of_the_box(folder):
    with make(folder) as box:
        before = files(folder)
        score = box.evaluate(step(folder, 1))
        assert files(folder) == before
    with Runner() as runner:
        runner.start(request := read_request(str(folder / 'request.pbtxt')))
        runner.use_checkpoint(step(folder, 1))
        canvas = runner.run(BOX.start.zyx, BOX.size.zyx)
        assert not request.model_checkpoint_path.endswith('ckpt-1')  # left to whom it belongs
    truth = flood.write_volume(folder)[BOX.slices_zyx]
    rand, voi = rand_score(truth, canvas.segmentation), voi_score(truth, canvas.segmentation)
    assert without_time(score) == HeldOutScore(
        rand.error,
        rand.precision,
        rand.recall,
        voi.split,
        voi.merge,
        filled_fraction=pytest.approx(canvas.segmented_voxels() / canvas.image.size),
        objects=len(canvas.origins),
        steps=canvas.counters['predict-calls'],
        seconds=0,
        complete=True,
    )
    assert score.rand_error < 0.4
    assert score.objects > 2
    assert score.steps > 400


def test_weights_follow_the_checkpoint_and_nothing_stays(folder, monkeypatch):
    made = []

    def make_predictor(model):
        made.append(model)
        return original(model)

    original = predictor.make_predictor
    monkeypatch.setattr(predictor, 'make_predictor', make_predictor)
    with make(folder) as box:
        scores = {n: without_time(box.evaluate(step(folder, n))) for n in (1, 2, 3)}
        gc.collect()
        networks = sum(isinstance(o, FFNModel) for o in gc.get_objects())
        for n in (2, 1, 3, 1):
            assert without_time(box.evaluate(Path(step(folder, n)))) == scores[n]
        gc.collect()
        assert sum(isinstance(o, FFNModel) for o in gc.get_objects()) == networks
    assert len(made) == 1
    assert scores[1].rand_error < 0.4
    # Nothing: background is one segment, as everything is.
    assert (scores[2].objects, scores[2].filled_fraction) == (0, 0)
    assert scores[2].voi_split == pytest.approx(0)
    assert scores[2].voi_merge > 0.5 > scores[1].voi_merge
    assert scores[3].filled_fraction > 0.7
    assert scores[3].voi_merge > 0.5


@pytest.mark.slow
def test_another_network_begins_anew(folder):
    write_settings(folder / 'flood', {'image_mean': 128})
    other = folder / 'other'
    shutil.copytree(folder / 'flood', other)
    (other / 'model.json').write_text('{"image_mean": -2000}')
    request = parse_request(flood.write_request(folder))
    request.ClearField('image_mean')
    with HeldOutBox(request, f'{folder}/volume.h5:labels', BOX) as box:
        bright = [box.evaluate(step(folder, 1)) for _ in range(2)]
        assert (
            box.evaluate(other / 'model.ckpt-1').filled_fraction > bright[0].filled_fraction + 0.2
        )
        assert without_time(box.evaluate(step(folder, 1))) == without_time(bright[0])
    assert not request.HasField('image_mean')


def test_settings_come_from_the_training(folder):
    with make(folder) as box:
        expected = without_time(box.evaluate(step(folder, 1)))
    settings = {
        'model_name': flood.NAME,
        'model_args': json.loads(flood.ARGS),
        'image_mean': 128,
        'image_stddev': 127,
        'init_activation': 0.95,
        'seed_pad': 0.05,
        'threshold': 0.9,
    }
    write_settings(folder / 'flood', settings)
    request = parse_request(
        f'image {{ hdf5: "{folder}/volume.h5:raw" }} seed_policy: "PolicyPeaks" inference_options {{ '
        'segment_threshold: 0.6 disco_seed_threshold: -1 min_boundary_dist { x: 1 y: 1 z: 1 } '
        'min_segment_size: 50 }'
    )
    with HeldOutBox(request, f'{folder}/volume.h5:labels', BOX) as box:
        assert without_time(box.evaluate(step(folder, 1))) == expected


def test_labels_of_another_voxel_size_than_the_request_are_told(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['labels'].attrs['resolution'] = [30.0, 9.0, 8.0]  # z, y, x
    request = parse_request(flood.write_request(folder))
    for size, told in (((8, 9, 30), False), ((30, 9, 8), True)):
        request.voxel_size.x, request.voxel_size.y, request.voxel_size.z = size
        with HeldOutBox(request, f'{folder}/volume.h5:labels', BOX, max_steps=1) as box:
            box.segment(step(folder, 1))
        both = 'x,y,z 30,9,8 nm (the request or its training), but x,y,z 8,9,30 nm ('
        assert (both in caplog.text) == told


def test_averaged_weights(folder):
    plain = {
        n: np.zeros(v.shape, np.float32) for n, v in flood.make_network().named_variables().items()
    }
    averaged = {
        f'ema/{n}': np.asarray(v).copy() for n, v in flood.make_network().named_variables().items()
    }
    CheckpointWriter(folder / 'flood').save(plain | averaged, 9)
    request = parse_request(flood.write_request(folder))
    scores = []
    for request.use_ema in (False, True):
        with HeldOutBox(request, f'{folder}/volume.h5:labels', BOX) as box:
            scores.append(box.evaluate(step(folder, 9)))
    assert scores[0].objects == 0
    assert scores[1].rand_error < 0.4
    with pytest.raises(UserError, match=r'model\.ckpt-1 holds no averaged weights'):
        box.evaluate(step(folder, 1))


def test_a_network_that_is_there_already(folder):
    """As a notebook has it, or a training in mid-step."""
    request = parse_request(flood.write_request(folder))
    for name in ('model_name', 'model_args', 'model_checkpoint_path'):
        request.ClearField(name)
    model = flood.make_network()
    with HeldOutBox(request, f'{folder}/volume.h5:labels', BOX) as box, make(folder) as stored:
        expected = [without_time(stored.evaluate(step(folder, n))) for n in (1, 2)]
        assert without_time(box.evaluate(model)) == expected[0]
        for variable in model.named_variables().values():
            variable.assign(np.zeros(variable.shape))
        assert without_time(box.evaluate(model)) == expected[1]
        assert without_time(box.evaluate(flood.make_network())) == expected[0]
        with pytest.raises(UserError, match='model_name'):
            box.evaluate(step(folder, 1))


@pytest.mark.parametrize('steps', [1, 20])
def test_a_limit_of_steps(folder, steps):
    with make(folder, max_steps=steps) as box:
        score = box.evaluate(step(folder, 3))
        assert (score.steps, score.complete, score.objects) == (steps, False, 0)
        assert score.rand_recall == 1  # there is but background
        assert not box.evaluate(step(folder, 3)).complete
        # One step for each of 18 seeds.
        assert box.evaluate(step(folder, 2)).complete == (steps == 20)


def test_objects_that_were_finished_before_the_limit_count(folder):
    with make(folder) as box:
        whole = box.segment(step(folder, 1))
    with make(folder, max_steps=whole.steps * 3 // 4) as box:
        part = box.segment(step(folder, 1))
    assert not part.complete
    assert 0 < part.labels.max() < whole.labels.max()
    assert part.labels.min() == 0
    np.testing.assert_array_equal(
        part.labels, np.where(whole.labels > part.labels.max(), 0, whole.labels)
    )


@pytest.mark.slow
def test_the_limit_that_holds_if_none_is_given(folder, monkeypatch):
    """So many times what covers the box: 18 x 13 x 10 moves of 2 voxels."""
    with make(folder) as box, make(folder, max_steps=0) as endless:
        assert box.evaluate(step(folder, 3)).complete
        # Less than what it takes, as a network that never ends would find it.
        monkeypatch.setattr(held_out_box, 'TIMES_COVERED', 18.5 / (18 * 13 * 10))
        score = box.evaluate(step(folder, 3))
        assert (score.steps, score.complete) == (19, False)
        assert endless.evaluate(step(folder, 3)).complete


def test_a_limit_of_time_and_a_signal(folder):
    with make(folder, max_seconds=1e-6) as box:
        score = box.evaluate(step(folder, 1))
        assert (score.steps, score.complete) == (1, False)
    stop = threading.Event()
    with make(folder, stop=stop, max_seconds=1000) as box:
        assert box.evaluate(step(folder, 1)).complete
        stop.set()
        assert not box.evaluate(step(folder, 1)).complete


def test_it_is_quiet(folder, caplog, capfd):
    """What contradicts the training is said once; then there is but a line of the seed policy."""
    write_settings(folder / 'flood', {'image_mean': 120, 'voxel_size': [1, 1, 1]})
    with make(folder) as box, caplog.at_level(logging.INFO, 'absl'):
        box.evaluate(step(folder, 1))
        assert sum('trained with' in r.getMessage() for r in caplog.records) == 1
        caplog.clear()
        capfd.readouterr()
        box.evaluate(step(folder, 2))
        assert [r.getMessage() for r in caplog.records] == ['PolicyPeaks: 18 seeds, 18 fit']
        assert capfd.readouterr() == ('', '')


def test_what_it_sets_for_the_process_is_put_back(folder):
    """On a GPU, a training multiplies as it did before."""
    import tensorflow as tf

    settings = tf.config.experimental
    seen = []
    with make(folder) as box:
        for before in (True, False):
            settings.enable_tensor_float_32_execution(before)
            try:
                box.evaluate(step(folder, 2))
                seen.append(settings.tensor_float_32_execution_enabled())
                with predictor.using_tf32(False):
                    assert not settings.tensor_float_32_execution_enabled()
            finally:
                settings.enable_tensor_float_32_execution(True)
    assert seen == [True, False]


def test_a_failure_leaves_it_usable(folder, monkeypatch):
    with make(folder) as box:
        expected = without_time(box.evaluate(step(folder, 1)))
        with pytest.raises(UserError, match=r'model\.ckpt-7'):
            box.evaluate(step(folder, 7))
        assert without_time(box.evaluate(step(folder, 1))) == expected
        box.close()

        def fails(model):
            def predict(images, seeds):
                raise MemoryError('no memory on the device')

            return predict

        with monkeypatch.context() as patched:
            patched.setattr(predictor, 'make_predictor', fails)
            with pytest.raises(MemoryError):
                box.evaluate(step(folder, 1))
        assert without_time(box.evaluate(step(folder, 1))) == expected


def test_a_box_beyond_the_image_is_clipped(folder, caplog):
    with caplog.at_level(logging.WARNING), make(folder, Box(Xyz(30, 5, 6), Xyz(20, 60, 9))) as box:
        assert 'clipped' in caplog.text
        assert box.box == Box(Xyz(30, 5, 6), Xyz(8, 21, 9))
        assert box.truth.shape == (9, 21, 8)
        expected = flood.write_volume(folder)[6:15, 5:26, 30:38]
    np.testing.assert_array_equal(box.truth > 0, expected > 0)
    assert box.truth.max() == len(np.unique(expected)) - 1


def test_errors_come_before_any_network_is_loaded(folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['small'] = file['labels'][:10]
        file['soft'] = file['labels'][:].astype(np.float32)
    for options, message in (
        ({'box': Box(Xyz(40, 0, 0), Xyz(9, 9, 9))}, 'outside'),
        ({'box': Box(Xyz(0, 0, 0), Xyz(2, 9, 9))}, 'has no object in box'),
        ({'labels': 'volume.h5:small'}, 'is not inside .*small'),
        ({'labels': 'volume.h5:soft'}, 'labels must be integers'),
        ({'labels': 'volume.h5:none'}, "no dataset 'none'"),
        ({'max_steps': -1}, 'max_steps is -1'),
        ({'max_seconds': float('nan')}, 'max_seconds is nan'),
    ):
        with pytest.raises(UserError, match=message):
            make(folder, **options)
    request = parse_request(flood.write_request(folder))
    request.seed_policy = ''
    with pytest.raises(UserError, match='seed_policy is not set'):
        HeldOutBox(request, f'{folder}/volume.h5:labels', BOX)
    request.seed_policy = 'NoSuchPolicy'
    with pytest.raises(UserError, match='NoSuchPolicy'):
        HeldOutBox(request, f'{folder}/volume.h5:labels', BOX)
    request.seed_policy, request.movement_policy_name = 'PolicyPeaks', 'NoSuchMovement'
    with pytest.raises(UserError, match='NoSuchMovement'):
        HeldOutBox(request, f'{folder}/volume.h5:labels', BOX)
    with make(folder, Box(Xyz(0, 0, 0), Xyz(38, 26, 4))) as box:
        with pytest.raises(UserError, match='smaller than the field of view'):
            box.evaluate(step(folder, 1))


def test_scores_as_a_training_logs_them_and_as_a_row():
    truth = np.ones((2, 3, 4), int)
    labels = np.where(np.arange(4) < 2, 5, 0)[np.newaxis, np.newaxis] * truth
    score = HeldOutScore.of(truth, Segmented(labels, 12, 3.25, complete=False))
    assert score.scalars() == {
        'rand_error': pytest.approx(1 - 2 * 11 / 23 / (1 + 11 / 23)),
        'rand_precision': 1,
        'rand_recall': pytest.approx(11 / 23),
        'voi_split': 1,
        'voi_merge': 0,
        'filled_fraction': 0.5,
        'objects': 1,
        'steps': 12,
        'seconds': 3.25,
        'complete': 0,
    }
    assert all(type(value) is float for value in score.scalars().values())
    assert score.row().split()[3:10] == ['1.0000', '0.0000', '50.0%', '1', '12', '3.2', '(stopped']
    whole = dataclasses.replace(score, complete=True)
    assert len(whole.row()) == len(HEADER)
    assert HeldOutScore.of(truth, Segmented(labels), 'both').rand_error == 0


def test_all_files_of_checkpoints_may_be_listed():
    request = inference_pb2.InferenceRequest(model_checkpoint_path='r')
    endings = ('.data-00000-of-00001', '.index', '.input-00000-of-00002', '.int8-0a1b2c3d.json')
    listed = [f'm/model.ckpt-{step}{ending}' for step in (100, 90) for ending in endings]
    assert checkpoint_names(listed, request) == ['m/model.ckpt-100', 'm/model.ckpt-90']
    listed = ['m/net.int8-0a1b2c3d.json', 'm/net.json', 'm/net.weights.h5']
    assert checkpoint_names(listed, request) == ['m/net.weights.h5']
    # Converted from one that counts as well.
    both = ['m/model.ckpt-1.weights.h5', 'm/model.ckpt-1.json', 'm/model.ckpt-1.index']
    assert checkpoint_names(both, request) == ['m/model.ckpt-1.weights.h5', 'm/model.ckpt-1']
    assert checkpoint_names([], request) == ['r']
