"""What is known of a label volume before it is written."""

import dataclasses
import json
import os

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec, choose_voxel_size
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.volume import open_volume

BOX = Box(Xyz(3, 5, 7), Xyz(30, 20, 10))


@pytest.mark.parametrize('spec', ['zarr://out', 'zarr3://out', 'n5://out', 'out.h5:labels'])
def test_most_formats_need_no_voxel_size(spec):
    assert OutputSpec(spec, BOX, Xyz(4, 5, 6)).voxel_size is None


def test_a_precomputed_volume_without_a_voxel_size_is_refused():
    with pytest.raises(UserError, match=r'^precomputed://out stores .*: give --voxel_size X,Y,Z'):
        OutputSpec('precomputed://out', BOX, Xyz(4, 5, 6))


def test_the_voxel_size_is_written_as_it_was_typed(tmp_path):
    """Requests hold it as float32."""
    size = (4.599999904632568, 4.599999904632568, 45.0)
    output = OutputSpec(f'precomputed://{tmp_path}/out', BOX, Xyz(4, 5, 6), size)
    output.create('x')
    (scale,) = json.loads((tmp_path / 'out/info').read_text())['scales']
    assert scale['resolution'] == [4.6, 4.6, 45]


@pytest.mark.parametrize('scheme', ['zarr', 'zarr3', 'n5', 'precomputed', 'hdf5'])
@pytest.mark.parametrize('size', [(8.0, 9.5, 33.0), None])
def test_every_format_keeps_the_voxel_size(tmp_path, scheme, size):
    if scheme == 'precomputed' and size is None:
        return
    spec = f'{scheme}://{tmp_path}/out' if scheme != 'hdf5' else f'{tmp_path}/out.h5:labels'
    output = OutputSpec(spec, BOX, Xyz(8, 5, 6), size)
    labels = np.arange(np.prod(BOX.size), dtype=np.uint64).reshape(BOX.size.zyx) + 2**40
    if scheme == 'hdf5':
        with output.replace_hdf5('made') as target:
            target.write(BOX, labels)
    else:
        for _ in range(2):  # the second as after an interruption
            output.create('made')
        output.open_parallel().write(BOX, labels)
        output.finish('made')
    with open_volume(spec) as volume:
        np.testing.assert_array_equal(volume.read(BOX), labels)
        assert (volume.voxel_size and volume.voxel_size.xyz) == size


@pytest.mark.parametrize('scheme', ['zarr', 'zarr3', 'n5', 'precomputed', 'hdf5'])
def test_another_voxel_size_than_the_volume_has(tmp_path, caplog, scheme):
    spec = f'{scheme}://{tmp_path}/out' if scheme != 'hdf5' else f'{tmp_path}/out.h5:labels'
    output = OutputSpec(spec, BOX, Xyz(8, 5, 6), (8.0, 9.5, 33.0))
    output.check_stored_voxel_size()  # does not exist
    if scheme == 'hdf5':
        with output.replace_hdf5('made') as target:
            target.write(BOX, np.ones(BOX.size.zyx, np.uint64))
    else:
        output.create('made')
    dataclasses.replace(output, voxel_size=(8.0, 9.50001, 33.0)).check_stored_voxel_size()
    if scheme != 'precomputed':
        dataclasses.replace(output, voxel_size=None).check_stored_voxel_size()
    assert caplog.text == ''
    other = dataclasses.replace(output, voxel_size=(9.5, 8.0, 33.0))
    with pytest.raises(UserError, match=r'^--o .*out.* of x,y,z 8,9.5,33 nm .* not x,y,z 9.5,8,33'):
        other.check_stored_voxel_size('--o')


@pytest.mark.parametrize('scheme', ['zarr', 'zarr3', 'n5'])
def test_a_volume_begun_without_a_voxel_size_is_continued(tmp_path, scheme):
    OutputSpec(f'{scheme}://{tmp_path}/out', BOX, Xyz(8, 5, 6)).create('made')
    OutputSpec(f'{scheme}://{tmp_path}/out', BOX, Xyz(8, 5, 6), (8, 8, 33)).create('made')


def test_zarr_says_what_is_in_chunks_that_are_not_stored(tmp_path):
    """Volumes begun by earlier versions did not, and are continued."""
    output = OutputSpec(f'zarr://{tmp_path}/out', BOX, Xyz(8, 5, 6))
    metadata = tmp_path / 'out' / '.zarray'
    output.create('made')
    assert json.loads(metadata.read_text())['fill_value'] == 0
    output.open_parallel().write(BOX, np.full(BOX.size.zyx, 9, np.uint64))
    metadata.write_text(metadata.read_text().replace('"fill_value":0', '"fill_value":null'))
    output.create('made')
    assert json.loads(metadata.read_text())['fill_value'] == 0
    output.finish('made')
    with open_volume(output.spec) as volume:
        assert (volume.read(BOX) == 9).all()


def test_a_volume_without_a_voxel_size_does_not_get_one_later(tmp_path, caplog):
    OutputSpec(f'n5://{tmp_path}/out', BOX, Xyz(8, 5, 6)).create('made')
    OutputSpec(f'n5://{tmp_path}/out', BOX, Xyz(8, 5, 6), (8, 8, 33)).check_stored_voxel_size()
    assert 'begun without a voxel size, and gets none; to store x,y,z 8,8,33 nm' in caplog.text


def test_the_first_voxel_size_counts_and_others_are_told(caplog):
    image = KnownVoxelSize((8.0, 8.0, 30.0), 'image.zarr')
    assert choose_voxel_size(None, None) is None
    assert choose_voxel_size(None, None, None, image) == (8, 8, 30)
    assert choose_voxel_size(None, (8.0, 8.0001, 30.0), image) == (8, 8.0001, 30)
    assert not caplog.messages
    assert choose_voxel_size((4.0, 4.0, 30.0), (30.0, 8.0, 8.0), image) == (4, 4, 30)
    given = 'voxel sizes contradict each other: x,y,z 4,4,30 nm (--voxel_size), but x,y,z'
    assert caplog.messages == [
        f'{given} 30,8,8 nm (the request or its training)',
        f'{given} 8,8,30 nm (image.zarr)',
    ]


@pytest.mark.parametrize('mode', [os.W_OK, os.X_OK])
def test_a_file_in_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch, mode):
    (tmp_path / 'out.h5').touch()
    monkeypatch.setattr(os, 'access', lambda path, asked: path != tmp_path or not asked & mode)
    for spec in (f'{tmp_path}/out.h5:labels', f'zarr://{tmp_path}/out'):
        with pytest.raises(UserError, match=f'cannot be made: {tmp_path} may not be written to'):
            OutputSpec(spec, BOX, Xyz(4, 5, 6)).check('--output')
