"""Images that are imported from volumes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from ffn.cli import import_stack
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.importing import image_sources
from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import ome
from tests.volumes.test_tensorstores import write, write_precomputed

SHAPE = (7, 10, 13)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def run(source, output, *more):
    import_stack.main(['--images', str(source), '--output', str(output), '--quiet', *more])
    return open_volume(str(output))


@pytest.mark.parametrize('slab_bytes', [1, 2**28])
def test_a_volume_keeps_its_size_and_place(tmp_path, monkeypatch, slab_bytes):
    monkeypatch.setattr(image_sources, '_SLAB_BYTES', slab_bytes)
    ome(tmp_path / 'raw.ome.zarr', 'zyx', [('0', (33, 8, 8), (33, -16, 24))])
    write('zarr', tmp_path / 'raw.ome.zarr' / '0', IMAGE)
    write_precomputed(tmp_path / 'p', IMAGE, (3, -2, 1))
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = np.stack([IMAGE, 255 - IMAGE])
        file['raw'].attrs.update(resolution=(33.0, 8.0, 8.0), offset=(33.0, -16.0, 24.0))
    for source in (
        tmp_path / 'raw.ome.zarr',
        f'precomputed://{tmp_path}/p',
        f'{tmp_path}/v.h5:raw#0',
    ):
        with run(source, f'{tmp_path}/o.h5:raw') as volume:
            assert volume.box == Box(Xyz(3, -2, 1), Xyz(*SHAPE[::-1]))
            assert volume.voxel_size.xyz == (8, 8, 33)
            np.testing.assert_array_equal(volume.read(volume.box), IMAGE)
    with run(f'{tmp_path}/v.h5:raw', f'{tmp_path}/o.h5:other', '--channel=1') as volume:
        np.testing.assert_array_equal(volume.read(volume.box), 255 - IMAGE)


def test_a_channel_that_is_named_twice(tmp_path):
    """It is taken where both agree; of files as well."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = np.stack([IMAGE, 255 - IMAGE])
    tifffile.imwrite(
        tmp_path / 's.tif',
        np.stack([IMAGE[0], 255 - IMAGE[0]], -1),
        photometric='minisblack',
        planarconfig='contig',
    )
    output = f'{tmp_path}/o.h5:raw'
    for source, expected in (('v.h5:raw', 255 - IMAGE), ('s.tif', 255 - IMAGE[:1])):
        for more in ([], ['--channel=1']):
            with run(f'{tmp_path}/{source}#1', output, '--voxel_size=8,8,33', *more) as volume:
                np.testing.assert_array_equal(volume.read(volume.box), expected)
        with pytest.raises(
            UserError, match=f'--channel 0 contradicts --images, which names 1 of .*{source}$'
        ):
            run(f'{tmp_path}/{source}#1', output, '--channel=0')


def test_a_volume_is_made_coarser_on_the_grid_of_space(tmp_path):
    write_precomputed(tmp_path / 'p', IMAGE, (3, -2, 1))
    with run(f'precomputed://{tmp_path}/p', f'{tmp_path}/o.h5:raw', '--downsample=2,2,3') as volume:
        # Voxels 4 to 15, -2 to 7, and 3 to 5 fill blocks.
        assert volume.box == Box(Xyz(2, -1, 1), Xyz(6, 5, 1))
        assert volume.voxel_size.xyz == (16, 16, 99)
        blocks = IMAGE[2:5, :, 1:].reshape(1, 3, 5, 2, 6, 2).mean(axis=(1, 3, 5))
        assert np.abs(volume.read(volume.box) - blocks).max() <= 0.5


def test_volumes_that_are_no_image(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = IMAGE.astype(np.uint64)
        file['two'] = np.stack([IMAGE, IMAGE])
        file['small'] = IMAGE / 255
    for source, message in (
        ('v.h5:labels', 'holds uint64; expected grey .* use ffn import-labels'),
        ('v.h5:two', 'has 2 channels'),
        ('v.h5:no', 'no dataset'),
        ('no.zarr', 'matches no file'),
    ):
        with pytest.raises(UserError, match=message):
            run(f'{tmp_path}/{source}', f'{tmp_path}/o.h5:raw')
    with run(f'{tmp_path}/v.h5:small', f'{tmp_path}/v.h5:same') as volume:
        assert volume.dtype == np.float32
        np.testing.assert_array_equal(volume.read(volume.box), (IMAGE / 255).astype(np.float32))
