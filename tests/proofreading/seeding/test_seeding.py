"""Sessions in which objects are grown one by one."""

import random
import threading
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ffn.inference import storage
from ffn.inference.runner import Runner
from ffn.proofreading.seeding.seed_run import _image_layer, serve, shown_layers
from ffn.proofreading.seeding.seeding import Seeding
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource
from tests.inference import flood
from tests.inference.oracle import object_mask
from tests.proofreading.seeded import BOX, STARTS, accept, everything, runner, session

LATENCY_S = 0.1


def timed(call, *args, **kwargs):
    """Calls and checks that the answer comes at once."""
    begin = time.perf_counter()
    result = call(*args, **kwargs)
    assert time.perf_counter() - begin < LATENCY_S, call
    return result


class Gate:
    """Called in each step; lets a test wait for a step, and the step for the test."""

    def __init__(self):
        self.inside, self.open = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self):
        self.inside.release()
        assert self.open.acquire(timeout=30)

    def reach(self):
        assert self.inside.acquire(timeout=30)


@pytest.mark.parametrize('start', STARTS)
def test_left_alone_it_is_what_segment_at_grows(tmp_path, start):
    with runner(tmp_path) as made:
        plain = made.open_canvas(BOX)
        steps = plain.segment_at([p - c for p, c in zip(start.zyx, BOX.start.zyx)])
        with Seeding(made, BOX) as seeding:
            seeding.start(start)
            look = seeding.wait(60)
            assert look.state == 'complete'
            assert look.steps == steps
            assert look.voxels == np.count_nonzero(object_mask(plain)) > 100
            assert look.start == start
            assert seeding._canvas.seed.tobytes() == plain.seed.tobytes()
            mask = seeding.read_object(np.s_[:, :, :])
            np.testing.assert_array_equal(mask, object_mask(plain))
            inside = look.extent.relative_to(BOX.start).slices_zyx
            assert np.count_nonzero(mask[inside]) == look.voxels
            assert seeding.accept() == 1
            np.testing.assert_array_equal(everything(seeding), object_mask(plain))


def test_the_network_that_is_used_grows_the_same(flood_folder):
    """With TensorFlow, as the command runs it."""
    config = flood.write_request(flood_folder)
    from ffn.inference.request import read_config

    with Runner(read_config(config)) as made:
        box = Box(Xyz(1, 0, 0), Xyz(36, 25, 20))
        plain = made.open_canvas(box)
        steps = plain.segment_at((6, 18, 10))
        with Seeding(made, box) as seeding:
            seeding.start(Xyz(11, 18, 6))
            assert seeding.wait(60).steps == steps > 20
            assert seeding._canvas.seed.tobytes() == plain.seed.tobytes()


@pytest.mark.parametrize('seed', range(4))
def test_stopping_and_going_on_changes_nothing(tmp_path, seed):
    rng = random.Random(seed)
    with runner(tmp_path) as made:
        plain = made.open_canvas(BOX)
        start = STARTS[seed]
        steps = plain.segment_at([p - c for p, c in zip(start.zyx, BOX.start.zyx)])
    opened, stops = [], 0

    def stop_at_random():  # while the step is computed
        if rng.random() < 0.3:
            opened[0].stop()
            assert opened[0].look().state == 'stopping'

    with session(tmp_path, wait=stop_at_random) as seeding:
        opened.append(seeding)
        seeding.start(start)
        while (look := seeding.wait(60)).state != 'complete':
            assert look.state == 'stopped'
            stops += 1
            seeding.resume()
        assert stops > 1
        assert look.steps == steps
        assert seeding._canvas.seed.tobytes() == plain.seed.tobytes()


def test_calls_answer_at_once_while_a_step_is_computed(tmp_path):
    computing = threading.Event()

    def slow():
        computing.set()
        time.sleep(0.5)

    with session(tmp_path, wait=slow) as seeding:

        def in_a_step():
            computing.clear()
            assert computing.wait(30)

        timed(seeding.start, STARTS[0])
        in_a_step()
        in_a_step()
        timed(seeding.stop)
        assert timed(seeding.look).state == 'stopping'
        timed(seeding.resume)
        timed(seeding.set_thresholds, 0.85, 0.5)
        look = timed(seeding.look)
        assert (look.move_threshold, look.segment_threshold) == pytest.approx((0.85, 0.5))
        timed(seeding.read_object, np.s_[2:12, :, :])
        assert look.steps == 1
        assert timed(seeding.accept) == 1
        assert timed(seeding.look).accepted == (1,)
        timed(seeding.start, STARTS[1])
        in_a_step()
        timed(seeding.reject)
        timed(seeding.start, STARTS[2])
        assert timed(seeding.undo) == 1
        assert timed(seeding.look).state == 'growing'
        in_a_step()
        assert timed(seeding.look).start == STARTS[2]
        assert not everything(seeding).any()


def test_a_step_for_an_object_that_is_gone_does_not_count(tmp_path):
    gate = Gate()
    with session(tmp_path, wait=gate) as seeding:
        seeding.start(STARTS[0])
        gate.reach()
        gate.open.release()
        gate.reach()
        voxels = seeding.look().voxels
        assert voxels > 0
        assert seeding.accept() == 1
        gate.open.release()
        seeding.start(STARTS[1])
        gate.reach()
        look = seeding.look()
        assert (look.state, look.steps) == ('growing', 0)
        assert np.count_nonzero(everything(seeding)) == voxels
        gate.open.release()
        gate.open.release()


def test_thresholds_are_changed_and_growing_goes_on(tmp_path):
    with session(tmp_path) as seeding:
        seeding.set_thresholds(move_threshold=0.94)
        seeding.start(STARTS[0])
        everywhere = seeding.wait(60)
        seeding.reject()
        seeding.set_thresholds(move_threshold=0.999999)
        seeding.start(STARTS[0])
        assert seeding.wait(60).steps < everywhere.steps
        seeding.set_thresholds(move_threshold=0.94)
        seeding.resume()
        assert seeding.wait(60).voxels == everywhere.voxels
        seeding.set_thresholds(segment_threshold=0.99999)
        assert seeding.look().voxels < everywhere.voxels
        seeding.set_thresholds(segment_threshold=0.6)
        assert seeding.look().voxels == everywhere.voxels
        seeding.again()
        assert seeding.wait(60).steps == everywhere.steps


def test_what_is_asked_of_it_must_make_sense(tmp_path):
    with session(tmp_path) as seeding:
        for call in (seeding.accept, seeding.reject, seeding.resume, seeding.again):
            with pytest.raises(UserError, match='there is no object; start one first'):
                call()
        with pytest.raises(UserError, match='no accepted object to take back'):
            seeding.undo()
        with pytest.raises(
            UserError, match=r'the seed is .* field of view does not fit .* expected'
        ):
            seeding.start(Xyz(2, 1, 1))
        with pytest.raises(UserError, match='move_threshold is 1; expected a probability'):
            seeding.set_thresholds(1.0)
        accept(seeding, STARTS[0])
        with pytest.raises(UserError, match='which object 1 has already filled'):
            seeding.start(STARTS[0])
        seeding.start(STARTS[1])
        with pytest.raises(UserError, match='there is an object already'):
            seeding.start(STARTS[2])
        seeding.wait(60)
        seeding.set_thresholds(segment_threshold=0.9999999999)
        with pytest.raises(UserError, match='no voxel of the object reaches segment_threshold'):
            seeding.accept()
        assert seeding.look().state == 'complete'
        seeding.stop()  # nothing to stop
        assert seeding.look().state == 'complete'


def test_what_the_network_raises_is_told(tmp_path, caplog):
    broken = []

    def wait():
        if broken:
            raise MemoryError('no room for the network')

    with session(tmp_path, wait=wait) as seeding:
        assert accept(seeding, STARTS[0]) == 1
        broken.append(True)
        seeding.start(STARTS[1])
        with pytest.raises(MemoryError, match='no room'):
            seeding.wait(60)
        assert seeding.wait(60).state == 'stopped'
        assert 'no room for the network' in str(seeding.look())
        assert 'no room for the network' in caplog.text
        assert seeding.look().accepted == (1,)
        seeding.reject()


def test_an_existing_segmentation_is_respected(tmp_path):
    with session(tmp_path, saved=False) as seeding:
        accept(seeding, STARTS[0])
        whole = np.zeros((18, 22, 34), np.uint64)
        whole[BOX.slices_zyx] = everything(seeding)
    with h5py.File(tmp_path / 'volume.h5', 'a') as file:
        file['known'] = np.where(whole, np.uint64(2**63 + 7), np.uint64(0))
    more = f'init_segmentation {{ hdf5: "{tmp_path}/volume.h5:known" }}'
    with session(tmp_path, more=more) as seeding:
        with pytest.raises(UserError, match='which init_segmentation has already filled'):
            seeding.start(STARTS[0])
        assert accept(seeding, STARTS[1]) == 2
        with pytest.raises(UserError, match='which object 2 has already filled'):
            seeding.start(STARTS[1])
        assert np.array_equal(everything(seeding) == 1, whole[BOX.slices_zyx] > 0)
        assert seeding.undo() == 2
        with pytest.raises(UserError, match='no accepted object'):
            seeding.undo()
        assert accept(seeding, STARTS[2]) == 2
    labels, origins = storage.load_segmentation(tmp_path / 'results', BOX.start.zyx, split_cc=False)
    assert list(origins) == [2]
    assert np.array_equal(labels == 1, whole[BOX.slices_zyx] > 0)
    path = storage.subvolume_path(tmp_path / 'results', BOX.start.zyx, 'npz')
    with np.load(path) as data:
        assert data['init_segmentation_ids'].tolist() == [0, 2**63 + 7]


def test_objects_that_would_join_others_are_refused():
    config = SimpleNamespace(
        segmentation_output_dir='out', options=SimpleNamespace(join_fraction=0.5)
    )
    with pytest.raises(UserError, match='prefilled_join_fraction is set'):
        serve(config, BOX)


def test_the_image_is_shown_as_the_network_sees_it(tmp_path):
    raw = np.random.default_rng(3).integers(0, 255, (20, 22, 24), np.uint8)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = raw
    source = VolumeSource(f'{tmp_path}/v.h5:raw', downsample=Xyz(2, 2, 1))
    layer = _image_layer(SimpleNamespace(image=source), '')
    assert layer.box.size == (12, 11, 20)
    assert _image_layer(SimpleNamespace(image=source), source.spec).box.size == (24, 22, 20)


def test_what_is_shown_has_its_own_voxel_size(tmp_path, caplog):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        for name, voxels in (
            ('raw', (20, 22, 24)),
            ('fine', (20, 44, 48)),
            ('plain', (20, 22, 24)),
        ):
            file[name] = np.ones(voxels, np.uint8)
        # z, y, x; that of the request counts for its own image.
        file['raw'].attrs['resolution'], file['fine'].attrs['resolution'] = (3, 8, 8), (30, 4, 4)
    size = (8.0, 8.0, 30.0)
    config = SimpleNamespace(image=VolumeSource(f'{tmp_path}/v.h5:raw'), voxel_size=size)
    fine, plain = (f'{tmp_path}/v.h5:{name}' for name in ('fine', 'plain'))
    layers = shown_layers(config, '', [plain])
    assert [layer.voxel_size for layer in layers] == [size, size]
    assert not caplog.text
    layers = shown_layers(config, fine, [plain])
    assert [layer.voxel_size for layer in layers] == [(4, 4, 30), size]
    assert 'the voxels of the request are x,y,z 8,8,30 nm, those of image 4,4,30 nm' in caplog.text
    unsized = SimpleNamespace(image=config.image, voxel_size=None)
    assert [layer.voxel_size for layer in shown_layers(unsized, fine, [])] == [(4, 4, 30)]
    assert 'the request has no voxel size; that of ' in caplog.text
    # Voxels under the mouse are those of the session, whatever is shown.
    with Viewer(voxel_size=size) as viewer:
        for layer in layers:
            viewer.add(layer)
        viewer.show(layers[1].box)
        state = viewer.neuroglancer.state
        assert viewer.voxel_size == size
        assert state.dimensions.to_json()['z'] == pytest.approx([30e-9, 'm'])
        assert state.position.tolist() == [12.5, 11.5, 10.5]
