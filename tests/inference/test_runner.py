"""The runner, with a network whose weights are set by hand."""

import logging
import shutil

import h5py
import numpy as np
import pytest

from ffn.inference import report, request_identity, storage
from ffn.inference.core.canvas import Interrupted
from ffn.inference.core.checkpoint import save_checkpoint
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.inference.seeds import registry
from ffn.models import precision
from ffn.models.checkpoints import CheckpointWriter
from ffn.models.saved_settings import write_settings
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from tests.inference import flood

SIZE_ZYX = (20, 26, 38)


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def run(folder, extra='', corner_zyx=(0, 0, 0), size_zyx=SIZE_ZYX, **options):
    """Segments a box; `extra` is added to the request, options override inference_options."""
    text = ' '.join(f'{name}: {value}' for name, value in options.items())
    request = read_request(flood.write_request(folder), text)
    with Runner() as runner:
        runner.start(read_text(request, extra))
        return runner.run(corner_zyx, size_zyx)


def read_text(request, extra):
    from ffn.utils.protos import parse_text

    return parse_text(extra, request, 'extra')


@pytest.mark.parametrize(
    ('corner_zyx', 'size_zyx'), [((0, 0, 0), SIZE_ZYX), ((1, 0, 2), (19, 26, 36))]
)
def test_the_result_lies_at_its_corner(folder, corner_zyx, size_zyx):
    canvas = run(folder, corner_zyx=corner_zyx, size_zyx=size_zyx)
    labels, origins = storage.load_segmentation(folder / 'results', corner_zyx, split_cc=False)
    np.testing.assert_array_equal(labels, canvas.segmentation)
    assert labels.shape == size_zyx
    assert len(origins) == labels.max() > 0
    path = storage.subvolume_path(folder / 'results', corner_zyx, 'npz')
    counters = read_npz(path, ['counters'], [])['counters'].item()
    for name in (b'predict-calls', b'inference-time-ms', b'load-image-calls', b'valid-time-ms'):
        assert b'"%s"' % name in counters


def test_masks_hold_without_a_shift_mask(folder):
    left = 'masks { coordinate_expression { expression: "x < 19" } }'
    canvas = run(folder, left)
    assert canvas.origins
    assert all(origin.start_zyx[2] >= 19 for origin in canvas.origins.values())
    free = run_again(folder)
    assert min(origin.start_zyx[2] for origin in free.origins.values()) < 19
    # The field of view, 7 wide in x, reaches 3 voxels over the border of what is masked.
    assert not canvas.segmentation[:, :, : 19 - 3].any()


def run_again(folder, *arguments, **options):
    (folder / 'results').rename(folder / f'results{len(list(folder.iterdir()))}')
    return run(folder, *arguments, **options)


def test_distances_of_seeds_are_measured_in_the_size_of_a_voxel(folder):
    with Runner() as runner:
        runner.start(
            read_text(read_request(flood.write_request(folder)), 'voxel_size { x: 1 y: 2 z: 3 }')
        )
        canvas, _ = runner.make_canvas((0, 0, 0), SIZE_ZYX)
    assert canvas.view.voxel_size_zyx == (3, 2, 1)


def test_a_subvolume_that_is_masked_everywhere_has_an_empty_result(folder):
    run(folder, 'masks { coordinate_expression { expression: "x >= 0" } }')
    labels, origins = storage.load_segmentation(folder / 'results', (0, 0, 0))
    assert not labels.any()
    assert not origins
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    assert b'everything-masked' in read_npz(path, ['counters'], [])['counters'].item()


def test_what_is_segmented_already_stays_and_the_rest_is_filled(folder):
    truth = flood.write_volume(folder)
    given = np.where(truth == 2, 2**40, np.where(truth == 3, 0, -1)).astype(np.int64)
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['given'] = given
    canvas = run(folder, f'init_segmentation {{ hdf5: "{folder}/volume.h5:given" }}')
    assert canvas.to_given_id[1] == 2**40
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    with np.load(path) as result:
        assert result['init_segmentation_ids'].tolist() == [0, 2**40]
    np.testing.assert_array_equal(canvas.segmentation == 1, truth == 2)
    assert set(canvas.origins) == set(range(2, canvas.segmentation.max() + 1))
    assert np.mean(canvas.segmentation[truth > 0] > 0) > 0.8


def test_a_canvas_of_its_own(folder):
    """As in a notebook: one object, seen while it grows, and no file."""
    with Runner() as runner:
        runner.start(read_request(flood.write_request(folder)))
        canvas, alignment = runner.make_canvas((2, 0, 1), (99, 26, 30))
        assert alignment.corner_zyx == (2, 0, 1)
        assert alignment.size_zyx == canvas.shape == (18, 26, 30)
        seen = []
        steps = canvas.segment_at((4, 18, 10), callback=lambda canvas, pos: seen.append(pos))
    assert len(seen) == steps > 5
    assert seen[0] == (4, 18, 10)
    truth = flood.write_volume(folder)[2:, :, 1:31]
    grown = np.nan_to_num(canvas.seed, nan=-9) >= 0
    assert np.all(truth[grown] == 2)
    assert not (folder / 'results').exists()


def test_a_request_unlike_the_training_is_warned_of(folder, flood_network, caplog):
    settings = {'image_mean': 120, 'image_stddev': 33, 'seed_pad': 0.1, 'threshold': 0.8}
    write_settings(flood_network, settings)
    try:
        with caplog.at_level(logging.WARNING), Runner() as runner:
            runner.start(read_request(flood.write_request(folder)))
    finally:
        (flood_network / 'model.json').unlink()
    warned = [r.getMessage() for r in caplog.records if 'trained with' in r.getMessage()]
    assert warned == [
        'image_mean is 128, but the model was trained with 120',
        'image_stddev is 127, but the model was trained with 33',
        'inference_options.pad_value is 0.05, but the model was trained with 0.1',
        'inference_options.move_threshold is 0.9, but the model was trained with 0.8',
    ]


def test_a_result_says_what_it_was_made_with(folder, tmp_path, monkeypatch):
    """The checkpoint that a folder stood for, the precision that auto was; where they were."""
    shutil.copytree((folder / 'flood').resolve(), tmp_path / 'training')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(precision, '_fastest', lambda: 'bfloat16')
    request = read_text(read_request(flood.write_request(folder)), 'precision: "auto"')
    request.model_checkpoint_path = 'training'
    for step in (1, 2):
        request.segmentation_output_dir = f'results{step}'
        with Runner() as runner:
            runner.start(request)
            CheckpointWriter(tmp_path / 'training').save(
                flood.make_network().named_variables(), step + 1
            )
            runner.run((0, 0, 0), SIZE_ZYX)
        path = tmp_path / f'results{step}/0/0/seg-0_0_0.npz'
        stored = request_identity.stored_request(read_npz(path, ['request'], [])['request'].item())
        assert stored.model_checkpoint_path == f'{tmp_path}/training/model.ckpt-{step}'
        assert stored.precision == 'bfloat16'


def test_a_result_that_another_process_has_written_stays(folder, monkeypatch, caplog):
    segment = Runner._segment

    def slow(self, canvas, *more):
        segment(self, canvas, *more)
        path = storage.subvolume_path(folder / 'results', canvas.corner_zyx, 'npz')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'of another')

    monkeypatch.setattr(Runner, '_segment', slow)
    run(folder)
    [path] = (folder / 'results').rglob('*.npz')
    assert path.read_bytes() == b'of another'
    assert 'has been written by another process meanwhile' in caplog.text


def test_values_that_do_not_belong_to_the_request(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        raw = file['raw'][:]
        del file['raw']
        file['raw'] = (raw / np.float32(255)).astype(np.float32)
    run(folder, 'image_mean: 128 image_stddev: 33')
    assert 'far from image_mean 128 and image_stddev 33' in caplog.text
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['raw'][3, 4, 5] = np.nan
    shutil.rmtree(folder / 'results')
    with pytest.raises(UserError, match='voxels that are no finite numbers'):
        run(folder)


def test_weights_that_are_not_there(folder, tmp_path):
    text = (folder / 'request.pbtxt').read_text().replace(f'{folder}/flood', f'{tmp_path}/nowhere')
    text = '\n'.join(line for line in text.splitlines() if 'model_name' not in line)
    with pytest.raises(UserError, match=r'no checkpoint at .*nowhere, whose training .*model_name'):
        read_request(text)
    (tmp_path / 'nowhere.weights.h5').touch()
    with pytest.raises(UserError, match=r'did you mean .*/nowhere\.weights\.h5\?'):
        read_request(text)


def test_auto_is_what_it_was_taken_for(folder, caplog, monkeypatch):
    request = read_text(read_request(flood.write_request(folder)), 'precision: "auto"')
    for fastest in ('float32', 'float32', 'bfloat16'):
        monkeypatch.setattr(precision, '_fastest', lambda fastest=fastest: fastest)
        with Runner() as runner:
            runner.start(request)
            assert runner.precision == fastest
            runner.stop.set()
            caplog.clear()
            with caplog.at_level(logging.INFO), pytest.raises(Interrupted):
                runner.run((0, 0, 0), SIZE_ZYX)
        assert ('made with another request' in caplog.text) == (fastest == 'bfloat16')


@pytest.mark.parametrize(('extra', 'message'), [
    ('image { volinfo: "a" }', 'volinfo'),
    ('image { decorator_specs: "a" }', 'decorator_specs'),
    ('init_segmentation { hdf5: "volume.h5:none" }', 'volume.h5'),
    ('reference_histogram: "none.npz"', 'none.npz'),
    ('movement_policy_args: "{\\"score_threshold\\": \\"high\\"}"', 'do not fit'),
    ('seed_policy: "PolicyImagePeaks2DDisk" seed_policy_args: "{\\"disk_radius\\": -1}"',
     'PolicyImagePeaks2DDisk'),
    ('image_mean: nan', 'image_mean is nan'),
    ('image_stddev: inf', 'image_stddev is inf'),
    ('inference_options { min_boundary_dist { x: -1 } }', 'min_boundary_dist is x,y,z -1,'),
    ('inference_options { min_segment_size: -1 }', 'min_segment_size is -1'),
    ('inference_options { disco_seed_threshold: nan }', 'disco_seed_threshold is nan'),
    ('inference_options { prefilled_gap: 2 }', 'prefilled_gap is set without init_segmentation'),
    ('histogram_masks { coordinate_expression { expression: "x < 1" } }', 'reference_histogram'),
    ('shift_mask { hdf5: "a" } shift_mask_scale: 1 shift_mask_threshold: 1 '
     'shift_mask_fov { start { x: 0 y: 0 z: 0 } size { x: 0 y: 1 z: 1 } }', 'shift_mask_fov has size'),
    ('movement_policy_name: "Jump"', 'FaceMaxMovementPolicy'),
    ('movement_policy_args: "{\\"deltas\\": [1, 1, 4]}"', 'z,y,x 2,2,3'),
    ('seed_policy: "PolicyGrid3d" seed_policy_args: "{\\"step\\": 0}"', 'step is 0; expected a whole number, 1 or more'),
    ('shift_mask { hdf5: "volume.h5:raw" } shift_mask_scale: 1', 'shift_mask_threshold is 0'),
    ('voxel_size { x: 1 y: 0 z: 1 }', 'voxel_size is x,y,z 1,0,1'),
    ('seed_policy_args: "{\\"step\\": 3}"', 'PolicyPeaks'),
])  # fmt: skip
def test_errors(folder, extra, message):
    with pytest.raises(UserError, match=message):
        run(folder, extra)
    assert not list(folder.rglob('*.npz'))


@pytest.mark.parametrize('field', ['seed_policy', 'movement_policy_name'])
def test_unknown_policies_are_told_before_anything_is_loaded(folder, field):
    (folder / 'flood').unlink()
    with pytest.raises(UserError, match=f"{field} 'Nowhere' does not exist"):
        run(folder, f'{field}: "Nowhere" image {{ hdf5: "none.h5:raw" }}')


def test_the_summary_says_what_became_of_the_seeds(folder):
    canvas = run(folder, min_segment_size=1500)
    rejected = canvas.counters['rejected-small']
    assert rejected > 0
    text = report.summary([report.BoxReport.of_canvas(canvas)], 2.0)
    assert f'{canvas.counters["seeds"]} seeds: {len(canvas.origins)} objects kept' in text
    assert f'{rejected} small' in text
    assert f'{canvas.counters["predict-calls"]} network steps' in text
    assert f'{canvas.image.size / 2:.0f} voxels/s' in text


def test_a_checkpoint_loads_as_a_result_only_when_allowed(folder):
    with Runner() as runner:
        runner.start(read_request(flood.write_request(folder)))
        canvas, _ = runner.make_canvas((0, 0, 0), SIZE_ZYX)
        canvas.seed_policy = registry.make_policy(canvas.view, 'PolicyPeaks', '')
        canvas.segment_all(canvas.seed_policy)
        save_checkpoint(canvas, storage.subvolume_path(folder / 'results', (0, 0, 0), 'cpoint'))
    with pytest.raises(UserError, match='no segmentation'):
        storage.load_segmentation(folder / 'results', (0, 0, 0))
    labels, _ = storage.load_segmentation(folder / 'results', (0, 0, 0), True, split_cc=False)
    np.testing.assert_array_equal(labels, canvas.segmentation)
