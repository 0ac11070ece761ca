"""Files written by zarr-python, ome-zarr, CloudVolume and webknossos, in environments of theirs, read by ours.

See `tests.oracles`. Last run with zarr 3.1.6, cloud-volume 12.15.2, ome-zarr 0.18.0 and webknossos 4.3.3.
"""

from __future__ import annotations

import subprocess
import textwrap

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import open_volume
from tests import oracles

pytestmark = oracles.needed

SHAPE = (13, 20, 31)
DATA = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE) + 1
BEGIN = """
import numpy as np
shape = (13, 20, 31)
data = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) + 1
"""


def write(folder, program):
    oracles.run(folder, BEGIN + textwrap.dedent(program))


def check(spec, data=DATA, start=(0, 0, 0), size=None):
    with open_volume(spec) as volume:
        assert volume.box.start == start
        np.testing.assert_array_equal(volume.read(volume.box), data)
        part = Box(Xyz(3, 5, 2), Xyz(12, 4, 6))
        moved = Box(Xyz(*(a + b for a, b in zip(part.start, start))), part.size)
        np.testing.assert_array_equal(volume.read(moved), data[(..., *part.slices_zyx)])
        assert (volume.voxel_size and volume.voxel_size.xyz) == size


@pytest.mark.parametrize('version', [2, 3])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_zarr(tmp_path, version, order):
    write(
        tmp_path,
        f"""
        import zarr
        group = zarr.open_group('g', mode='w', zarr_format={version})
        array = group.create_array('a', shape=shape, chunks=(4, 8, 16), dtype='u4', order='{order}')
        array[:] = data
        array.attrs['resolution'] = [40, 8, 8]
        array.attrs['offset'] = [80, -16, 0]
        """,
    )
    check(f'{tmp_path}/g/a', start=(0, -2, 2), size=(8, 8, 40))
    check(f'{tmp_path}/g:a', start=(0, -2, 2), size=(8, 8, 40))


def test_zarr_3_in_shards_with_names(tmp_path):
    write(
        tmp_path,
        """
        import zarr
        array = zarr.create_array('a', shape=(31, 20, 13), shards=(16, 16, 8), chunks=(8, 8, 4), dtype='u4',
                                  dimension_names=['x', 'y', 'z'])
        array[:] = data.T
        """,
    )
    check(f'{tmp_path}/a')


def test_ome_zarr_of_zarr_python(tmp_path):
    write(
        tmp_path,
        """
        import zarr
        group = zarr.open_group('o', mode='w', zarr_format=3)
        for name, part in (('0', data), ('1', data[:, ::2, ::2])):
            array = group.create_array(name, shape=part.shape, chunks=(4, 8, 16), dtype='u4')
            array[:] = part
        group.attrs['ome'] = {'version': '0.5', 'multiscales': [{
            'axes': [{'name': a, 'type': 'space', 'unit': 'nanometer'} for a in 'zyx'],
            'datasets': [{'path': p, 'coordinateTransformations': [{'type': 'scale', 'scale': s}]}
                         for p, s in (('0', [40, 8, 8]), ('1', [40, 16, 16]))]}]}
        """,
    )
    check(f'{tmp_path}/o', size=(8, 8, 40))
    check(f'{tmp_path}/o@1', DATA[:, ::2, ::2], size=(16, 16, 40))


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_ome_zarr(tmp_path, version):
    write(
        tmp_path,
        f"""
        import zarr
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image
        version = format_from_version('{version}')
        group = zarr.open_group('o', mode='w', zarr_format=version.zarr_format)
        write_image(data, group, axes='zyx', fmt=version, scale_factors=[{{'z': 1, 'y': 2, 'x': 1}}],
                    scale={{'z': 40.0, 'y': 8.0, 'x': 8.0}}, axes_units=dict.fromkeys('zyx', 'nanometer'))
        """,
    )
    check(f'{tmp_path}/o', size=(8, 8, 40))
    with open_volume(f'{tmp_path}/o@1') as volume:
        assert (volume.shape_zyx, volume.voxel_size.xyz) == ((13, 10, 31), (8, 16, 40))


WEBKNOSSOS = """
import webknossos as wk
if __name__ == '__main__':
    dataset = wk.Dataset('d', voxel_size=(8, 8, 40))
    layer = dataset.add_layer('cells', 'segmentation', dtype=np.uint32, data_format='{kind}', largest_segment_id=9999,
                              bounding_box=wk.BoundingBox((5, 7, 9), (31, 20, 13)))
    layer.add_mag(1, compress=True).write(data.T, absolute_offset=(5, 7, 9), allow_unaligned=True)
    layer.downsample(coarsest_mag=wk.Mag(2))
"""


@pytest.mark.parametrize('kind', ['wkw', 'zarr', 'zarr3'])
def test_webknossos(tmp_path, kind):
    write(tmp_path, WEBKNOSSOS.format(kind=kind))
    for spec in (f'{tmp_path}/d/cells', f'{tmp_path}/d:cells/1', f'{tmp_path}/d/cells@1'):
        check(spec, start=(5, 7, 9), size=(8, 8, 40))
    with open_volume(f'{tmp_path}/d/cells@2-2-1') as volume:
        assert volume.box == Box(Xyz(2, 3, 9), Xyz(16, 11, 13))
        assert volume.voxel_size.xyz == (16, 16, 40)


def test_empty_chunks_that_zarr_python_leaves_out(tmp_path, caplog):
    write(
        tmp_path,
        """
        import zarr
        data[4:8] = 0
        zarr.create_array('a', shape=shape, chunks=(4, 20, 31), dtype='u4')[:] = data
        """,
    )
    expected = DATA.copy()
    expected[4:8] = 0
    check(f'{tmp_path}/a', expected)
    assert '1 of the 4 chunks' in caplog.records[-1].getMessage()


CLOUD_VOLUME = """
from cloudvolume import CloudVolume
info = CloudVolume.create_new_info(1, 'segmentation', 'uint32', '{encoding}', [8, 8, 40], [5, -7, 9], [31, 20, 13],
                                   chunk_size=[16, 16, 8])
volume = CloudVolume('file://v', info=info, compress={compress}, progress=False)
volume.commit_info()
volume[:, :, :] = data.T
"""


@pytest.mark.parametrize('encoding', ['raw', 'compressed_segmentation'])
def test_precomputed_of_cloud_volume(tmp_path, encoding):
    write(tmp_path, CLOUD_VOLUME.format(encoding=encoding, compress=False))
    check(f'precomputed://{tmp_path}/v', start=(5, -7, 9), size=(8, 8, 40))
    check(f'{tmp_path}/v@8_8_40', start=(5, -7, 9), size=(8, 8, 40))


def test_compressed_files_of_cloud_volume_can_be_unpacked(tmp_path):
    write(tmp_path, CLOUD_VOLUME.format(encoding='raw', compress=True))
    with pytest.raises(UserError, match='gunzip -r') as caught:
        open_volume(f'precomputed://{tmp_path}/v')
    subprocess.run(str(caught.value).rpartition(': ')[2].split(), check=True)
    check(f'precomputed://{tmp_path}/v', start=(5, -7, 9), size=(8, 8, 40))


@pytest.mark.parametrize('encoding', ['compresso', 'crackle'])
def test_encodings_that_tensorstore_does_not_know(tmp_path, encoding):
    write(tmp_path, CLOUD_VOLUME.format(encoding=encoding, compress=False))
    with pytest.raises(UserError, match=f'chunks of the encoding {encoding} are not supported'):
        open_volume(f'precomputed://{tmp_path}/v')
