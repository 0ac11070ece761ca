"""The volumes that a run reads."""

import h5py
import numpy as np
import pytest

from ffn.inference.request import make_config, read_request
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from tests.inference import flood
from tests.inference.test_runner import read_text, run

BOX = Box.from_zyx((0, 0, 0), (20, 26, 38))


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def test_volumes_of_another_voxel_size_are_told(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['raw'].attrs['resolution'] = (30, 10, 10)
        for name in ('labels', 'mask'):
            file[name] = np.zeros(file['raw'].shape, np.uint8)
            file[name].attrs['resolution'] = (30, 20, 20)
    labels = f'init_segmentation {{ hdf5: "{folder}/volume.h5:labels" }}'
    mask = f'mask {{ hdf5: "{folder}/volume.h5:mask" }} channels {{ channel: 0 values: 1 }}'
    run(folder, f'{labels} masks {{ volume {{ {mask} }} }}')
    told = [r.message for r in caplog.records if 'contradict' in r.message]
    assert [('init_segmentation' in t, 'mask ' in t) for t in told] == [
        (True, False),
        (False, True),
    ]
    assert all('10,10,30' in t and '20,20,30' in t for t in told)


@pytest.mark.parametrize('mean', [-1e10, 1e10])
def test_a_mean_that_leaves_no_differences_is_told(folder, caplog, mean):
    canvas = run(folder, f'image_mean: {mean}')
    assert canvas.idle == 'constant'
    assert 'the image has values from 1 to 255 in ' in caplog.text
    assert f'far from image_mean {mean:g} and image_stddev 127; do these belong' in caplog.text


def test_a_gap_that_is_wider_than_the_subvolume_is_told(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['labels'] = np.eye(26, 38, dtype=np.uint8) * np.ones((20, 1, 1), np.uint8)
    labels = f'init_segmentation {{ hdf5: "{folder}/volume.h5:labels" }}'
    canvas = run(folder, f'{labels} inference_options {{ prefilled_gap: 39 }}')
    assert canvas.idle == 'masked'
    assert 'prefilled_gap is 39, more than all sides of the subvolume' in caplog.text


@pytest.mark.parametrize(
    'field', ['image', 'init_segmentation', 'masks', 'seed_masks', 'histogram_masks', 'shift_mask']
)
def test_missing_chunks_of_every_volume_are_refused(folder, tmp_path, field):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        shape = (2, 20, 7, 10) if field == 'shift_mask' else (20, 26, 38)
        sparse = file.create_dataset('sparse', shape, np.uint8, chunks=(*shape[:-3], 10, 7, 10))
        sparse[..., :10, :7, :10] = 1
    np.savez(tmp_path / 'h.npz', histogram=np.ones(256))
    volume = f'hdf5: "{folder}/volume.h5:sparse"'
    mask = f'{{ volume {{ mask {{ {volume} }} channels {{ values: 7 }} }} }}'
    extra = f'{field} {mask if "masks" in field else f"{{ {volume} }}"}'
    if field == 'shift_mask':
        extra += ' shift_mask_scale: 4 shift_mask_threshold: 9'
    request = read_text(read_request(flood.write_request(folder)), extra)
    request.reference_histogram = str(tmp_path / 'h.npz')
    with Runner(make_config(request)) as runner:
        runner.open_canvas(BOX)
    with (
        Runner(make_config(request).refusing_missing()) as runner,
        pytest.raises(UserError, match=r'volume.h5:sparse: .* chunks .*--missing=error'),
    ):
        runner.open_canvas(BOX)


def test_prefilled_voxels_without_a_label_are_counted(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['labels'] = -np.ones((20, 26, 38), np.int32)
    canvas = run(folder, f'init_segmentation {{ hdf5: "{folder}/volume.h5:labels" }}')
    assert canvas.segmentation.any()  # they can be filled
    size = 20 * 26 * 38
    assert caplog.text.count(f'{size} of {size} voxels (100.0 %) are not labelled') == 1


@pytest.mark.parametrize('coarse_zyx', [(6, 26, 12), (5, 26, 12)])
def test_labels_of_larger_voxels_may_end_within_the_last_one(folder, coarse_zyx):
    """The image has 20×26×38 voxels, labels those of 3×1×3: two planes remain, or five."""
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['coarse'] = np.ones(coarse_zyx, np.uint8)
    finer = 'upsample { x: 3 y: 1 z: 3 }'
    labels = f'init_segmentation {{ hdf5: "{folder}/volume.h5:coarse" {finer} }}'
    if coarse_zyx[0] == 5:
        with pytest.raises(UserError, match='not inside'):
            run(folder, labels)
        return
    canvas = run(folder, labels)
    assert (canvas.segmentation[:18, :, :36] == 1).all()
    assert not (canvas.segmentation[18:] == 1).any()
    assert not (canvas.segmentation[:, :, 36:] == 1).any()
