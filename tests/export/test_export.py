"""Export for Neuroglancer: scales, properties, resuming."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ffn.cli import export
from ffn.export import properties, pyramid
from ffn.export.scales import Scale, plan_scales
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.provenance import claim, read_claim
from ffn.volumes.volume import open_volume

SHAPE = (70, 133, 150)
SIZE = '8,8,30'


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(2)
    labels = np.kron(random.integers(0, 40, (18, 34, 38)), np.ones((4, 4, 4), int))
    labels = labels[: SHAPE[0], : SHAPE[1], : SHAPE[2]] * 2**35
    with h5py.File(tmp_path / 'volume.h5', 'w') as file:
        file['raw'] = random.integers(0, 255, SHAPE).astype(np.uint8)
        file['labels'] = np.where(labels, labels, -1)  # background is 0 or less
    return tmp_path


def call(folder, *more):
    return export.main(['--output', str(folder / 'view'), '--voxel_size', SIZE, '--quiet', *more])


def both(folder):
    return ('--image', f'{folder}/volume.h5:raw', '--labels', f'{folder}/volume.h5:labels')


def stored(folder, name):
    with h5py.File(folder / 'volume.h5') as file:
        return file[name][:]


def scale(folder, name, index):
    spec = {
        'driver': 'neuroglancer_precomputed',
        'scale_index': index,
        'kvstore': {'driver': 'file', 'path': str(folder / 'view' / name)},
    }
    import tensorstore as ts

    return ts.open(spec, open=True).result()[..., 0].read().result().T


def test_missing_chunks_can_be_an_error(folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file.create_dataset('sparse', SHAPE, np.uint8, chunks=(35, 133, 150))[:35] = 7
    arguments = ('--image', f'{folder}/volume.h5:sparse')
    with pytest.raises(UserError, match=r'sparse: 1 of the 2 chunks .*--missing=error'):
        call(folder, *arguments, '--missing', 'error')
    call(folder, *arguments)  # goes on where the first stopped
    assert (scale(folder, 'image', 0) == np.repeat([7, 0], 35)[:, None, None]).all()


def test_image_and_labels(folder, repository):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'ffn.assembly.export',
            '--output',
            str(folder / 'view'),
            '--voxel_size',
            SIZE,
            *both(folder),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    image, labels = stored(folder, 'raw'), np.maximum(stored(folder, 'labels'), 0)
    np.testing.assert_array_equal(scale(folder, 'image', 0), image)
    np.testing.assert_array_equal(scale(folder, 'labels', 0), labels.astype(np.uint64))
    with open_volume(f'precomputed://{folder}/view/labels') as opened:
        np.testing.assert_array_equal(opened.read(opened.box), labels.astype(np.uint64))
    info = json.loads((folder / 'view/labels/info').read_text())
    assert [s['resolution'] for s in info['scales']] == [[8, 8, 30], [16, 16, 30], [32, 32, 60]]
    assert [s['size'] for s in info['scales']] == [[150, 133, 70], [75, 67, 70], [38, 34, 35]]
    assert info['type'] == 'segmentation'
    # z stays; x and y are halved: the mean of 4 for the image, the most frequent of labels, whose
    # cubes of 4 voxels leave no doubt.
    means = image[:, :132, :].reshape(70, 66, 2, 75, 2).mean((2, 4))
    assert np.abs(scale(folder, 'image', 1)[:, :66] - means).max() <= 0.5
    np.testing.assert_array_equal(scale(folder, 'labels', 1), labels[:, ::2, ::2].astype(np.uint64))
    np.testing.assert_array_equal(
        scale(folder, 'labels', 2), labels[::2, ::4, ::4].astype(np.uint64)
    )


def test_segment_properties(folder):
    call(folder, *both(folder))
    info = json.loads((folder / 'view/labels/info').read_text())
    properties = json.loads(
        (folder / 'view/labels' / info['segment_properties'] / 'info').read_text()
    )
    assert properties['@type'] == 'neuroglancer_segment_properties'
    inline = properties['inline']
    found = dict(zip(map(int, inline['ids']), inline['properties'][0]['values'], strict=True))
    labels = stored(folder, 'labels')
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    assert found == dict(zip(ids.tolist(), sizes.tolist(), strict=True))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    state = json.loads((folder / 'view/state.json').read_text())
    assert [layer['name'] for layer in state['layers']] == ['image', 'labels']
    assert state['position'] == [75, 66.5, 35]


def test_it_goes_on_where_it_was(folder, monkeypatch):
    monkeypatch.setattr(pyramid, 'BLOCK_CHUNKS', 1)
    whole, count = pyramid.Pyramid.read, []

    def three_then_stop(self, *args):
        count.append(args)
        if len(count) > 3:
            raise KeyboardInterrupt
        return whole(self, *args)

    monkeypatch.setattr(pyramid.Pyramid, 'read', three_then_stop)
    with pytest.raises(KeyboardInterrupt):
        call(folder, *both(folder)[2:])
    assert len(list((folder / 'view/labels/export_blocks').rglob('*.npy'))) == 3
    count.clear()
    monkeypatch.setattr(pyramid.Pyramid, 'read', lambda *args: count.append(args) or whole(*args))
    call(folder, *both(folder)[2:])
    assert len(count) == 2 * 3 * 3 + 2 * 2 * 2 + 1 - 3
    np.testing.assert_array_equal(
        scale(folder, 'labels', 0), np.maximum(stored(folder, 'labels'), 0).astype(np.uint64)
    )
    count.clear()
    call(folder, *both(folder)[2:])
    assert not count


def test_several_processes(folder):
    call(folder, *both(folder), '--workers', '2')
    alone = folder / 'alone'
    export.main(['--output', str(alone), '--voxel_size', SIZE, '--quiet', *both(folder)])
    for path in alone.rglob('*'):
        other = folder / 'view' / path.relative_to(alone)
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


def test_scales_of_an_offset():
    first = Scale(Box(Xyz(3, 4, 5), Xyz(200, 9, 10)), (10, 10, 10), Xyz(1, 1, 1))
    assert first.coarsen() == Scale(Box(Xyz(1, 2, 2), Xyz(101, 5, 6)), (20, 20, 20), Xyz(2, 2, 2))
    assert len(plan_scales(first.box, (10, 10, 10))) == 3
    assert len(plan_scales(first.box, (10, 10, 10), max_scales=2)) == 2


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        ((), 'give --image'),
        (('--image', '{}/volume.h5:none'), 'none'),
        (
            ('--labels', '{}/volume.h5:raw', '--voxel_size', '8,8'),
            'expected three positive numbers x,y,z',
        ),
        (
            ('--labels', '{}/volume.h5:raw', '--voxel_size', '8,8,0'),
            "'8,8,0'; expected three positive",
        ),
    ],
)
def test_bad_input(folder, more, message):
    with pytest.raises(UserError, match=message):
        call(folder, *(word.format(folder) for word in more))


def test_another_volume_is_refused(folder):
    call(folder, *both(folder))
    with pytest.raises(
        UserError, match=r'results of other settings: volume is .*labels there and .*raw here'
    ):
        call(folder, '--labels', f'{folder}/volume.h5:raw')
    (folder / 'view/labels/export.json').write_text('{')
    with pytest.raises(UserError, match='is no manifest'):
        call(folder, *both(folder))


def test_an_image_of_another_type_is_refused(folder):
    call(folder, *both(folder)[:2])
    image = stored(folder, 'raw')
    with h5py.File(folder / 'volume.h5', 'a') as file:
        del file['raw']
        file['raw'] = image.astype(np.uint16)
    with pytest.raises(UserError, match='dtype is uint8 there and uint16 here'):
        call(folder, *both(folder)[:2])


def test_sizes_are_those_of_the_blocks(folder):
    """Not of whatever else lies beside their files."""
    other = folder / 'view/labels/export_blocks/0/0_0_0.npy'
    other.parent.mkdir(parents=True)
    np.save(other, np.array([[7], [9]], np.uint64))
    call(folder, *both(folder)[2:])
    properties = json.loads((folder / 'view/labels/segment_properties/info').read_text())
    sizes = properties['inline']['properties'][0]['values']
    assert sum(sizes) == np.count_nonzero(stored(folder, 'labels') > 0)


def test_all_volumes_are_looked_at_first(folder):
    with pytest.raises(UserError, match='labelz'):
        call(folder, *both(folder)[:2], '--labels', f'{folder}/volume.h5:labelz')
    assert not (folder / 'view').exists()


def test_the_view_opens_on_the_labels(folder):
    labels = np.zeros(SHAPE, np.uint64)
    labels[40:60, 60:124, 100:140] = 3
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['part'] = labels
    call(folder, '--labels', f'{folder}/volume.h5:part')
    position = json.loads((folder / 'view/state.json').read_text())['position']
    np.testing.assert_allclose(position, [120, 92, 50], atol=4)


def test_the_properties_of_the_largest_segments_are_listed(folder, monkeypatch, caplog):
    monkeypatch.setattr(pyramid, 'BLOCK_CHUNKS', 1)
    monkeypatch.setattr(pyramid, '_MAX_ROWS', 7)
    monkeypatch.setattr(properties, 'LISTED', 5)
    labels = np.kron(
        np.random.default_rng(5).integers(1, 40, (3, 6, 7)), np.ones((24, 24, 24), int)
    )
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['part'] = labels[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    call(folder, '--labels', f'{folder}/volume.h5:part', '--skeletons')
    inline = json.loads((folder / 'view/labels/segment_properties/info').read_text())['inline']
    ids, sizes = np.unique(stored(folder, 'part'), return_counts=True)
    largest = np.lexsort((ids, -sizes))[:5]
    assert inline['ids'] == [str(label) for label in ids[largest]]
    values = {one['id']: one['values'] for one in inline['properties']}
    assert values['voxels'] == sizes[largest].tolist()
    assert all(len(numbers) == 5 for numbers in values.values())
    assert f'lists the 5 largest of {len(ids)} segments' in caplog.text


def test_a_volume_that_was_written_anew_is_not_taken_for_the_old_one(folder):
    spec, box = f'zarr://{folder}/joined', Box(Xyz(0, 0, 0), Xyz(90, 40, 30))
    output = OutputSpec(spec, box, Xyz(64, 64, 64))
    for stamp in ('first', 'second'):
        output.create(stamp)
        output.open_parallel().write(box, np.full(box.size.zyx, len(stamp), np.uint64))
        with pytest.raises(UserError, match='joined is not complete'):
            call(folder, '--labels', spec)
        output.finish(stamp)
        if stamp == 'first':
            call(folder, '--labels', spec)
    with pytest.raises(UserError, match='made_from is first there and second here'):
        call(folder, '--labels', spec)
    assert (scale(folder, 'labels', 0) == 5).all()


def test_a_volume_of_another_kind_is_not_touched(folder):
    box = Box(Xyz(0, 0, 0), Xyz(9, 8, 7))
    OutputSpec(f'precomputed://{folder}/view/labels', box, Xyz(8, 8, 8), (8, 9, 30)).create('x')
    before = (folder / 'view/labels/info').read_bytes()
    with pytest.raises(UserError, match='holds a volume of another kind'):
        call(folder, *both(folder)[2:])
    assert (folder / 'view/labels/info').read_bytes() == before


def test_a_block_that_cannot_be_written(folder):
    call(folder, *both(folder)[2:])
    shutil.rmtree(folder / 'view/labels/export_blocks')
    shutil.rmtree(folder / 'view/labels/8_8_30')
    (folder / 'view/labels/8_8_30').write_text('no folder')
    with pytest.raises(UserError, match='cannot be written'):
        call(folder, *both(folder)[2:])


def write_labels(folder, name, voxel_size):
    """Labels that say what size their voxels have."""
    box = Box(Xyz(0, 0, 0), Xyz(30, 20, 10))
    output = OutputSpec(f'precomputed://{folder}/{name}', box, Xyz(16, 16, 16), voxel_size)
    output.create('x')
    output.open_parallel().write(box, np.ones(box.size.zyx, np.uint64))
    output.finish('x')
    return output.spec


def resolution(folder, name='labels'):
    return json.loads((folder / 'view' / name / 'info').read_text())['scales'][0]['resolution']


def test_the_voxel_size_of_the_volume(folder, caplog):
    labels = write_labels(folder, 'mine', (8.0, 9.0, 30.0))
    arguments = ['--output', f'{folder}/view', '--labels', labels, '--quiet']
    export.main(arguments)
    assert resolution(folder) == [8, 9, 30]
    dimensions = json.loads((folder / 'view/state.json').read_text())['dimensions']
    assert dimensions['y'] == [pytest.approx(9e-9), 'm']
    assert not caplog.messages
    shutil.rmtree(folder / 'view')
    export.main([*arguments, '--voxel_size', '30,9,8'])
    assert resolution(folder) == [30, 9, 8]
    assert 'x,y,z 30,9,8 nm (--voxel_size), but x,y,z 8,9,30 nm (precomputed://' in caplog.text


def test_no_voxel_size_from_anywhere(folder):
    with pytest.raises(
        UserError, match=r'no voxel size is stored with .*: give --voxel_size X,Y,Z'
    ):
        export.main(['--output', f'{folder}/view', *both(folder)])
    assert not (folder / 'view').exists()


def test_image_and_labels_of_different_voxel_sizes(folder):
    image = write_labels(folder, 'image', (4.0, 9.0, 30.0))
    labels = write_labels(folder, 'mine', (8.0, 9.0, 30.0))
    with pytest.raises(
        UserError, match=r'voxels of image and labels differ: x,y,z 4,9,30 nm .* x,y,z 8,9,30 nm'
    ):
        export.main(['--output', f'{folder}/view', '--image', image, '--labels', labels])
    assert not (folder / 'view').exists()


def chunk_files(folder, name):
    return sorted(path for path in (folder / 'view' / name).glob('*_*_*/*') if path.is_file())


def test_shards(folder):
    call(folder, *both(folder))
    plain = {name: [scale(folder, name, i) for i in range(3)] for name in ('image', 'labels')}
    shutil.rmtree(folder / 'view')
    call(folder, *both(folder), '--shard_size', '64,64,64')
    for name, scales in plain.items():
        for index, expected in enumerate(scales):
            np.testing.assert_array_equal(scale(folder, name, index), expected)
        files = chunk_files(folder, name)
        assert {path.suffix for path in files} == {'.shard'}
        assert len(files) == 3 * 3 * 2 + 2 * 2 * 2 + 1
    with pytest.raises(UserError, match='shard_xyz is'):
        call(folder, *both(folder), '--shard_size', '128,128,128')


def test_a_shard_larger_than_a_block_is_one_task(folder, monkeypatch):
    monkeypatch.setattr(pyramid, 'BLOCK_CHUNKS', 1)
    call(folder, *both(folder)[2:], '--shard_size', '128,128,128')
    assert len(chunk_files(folder, 'labels')) == 2 * 2 * 1 + 1 + 1
    assert len(list((folder / 'view/labels/export_blocks').rglob('*.npy'))) == 2 * 2 * 1 + 1 + 1
    np.testing.assert_array_equal(
        scale(folder, 'labels', 0), np.maximum(stored(folder, 'labels'), 0).astype(np.uint64)
    )


def test_shards_that_are_impossible_are_refused_before_anything_is_written(folder):
    with pytest.raises(UserError, match='give --shard_size 64,64,64'):
        call(folder, *both(folder), '--shard_size', '64,128,64')
    with pytest.raises(UserError, match='give one of them'):
        call(folder, *both(folder), '--shard_size', '64,64,64', '--write_empty')
    assert not (folder / 'view').exists()


def test_empty_chunks_are_stored_if_asked_for(folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['part'] = np.zeros(SHAPE, np.uint64)
        file['part'][2, 3, 4] = 7
    labels = ('--labels', f'{folder}/volume.h5:part')
    call(folder, *labels)
    assert len(chunk_files(folder, 'labels')) == 3
    with pytest.raises(UserError, match='write_empty is'):
        call(folder, *labels, '--write_empty')
    shutil.rmtree(folder / 'view')
    call(folder, *labels, '--write_empty')
    assert len(chunk_files(folder, 'labels')) == 3 * 3 * 2 + 2 * 2 * 2 + 1
    assert scale(folder, 'labels', 2)[1, 0, 1] == 7


def test_an_export_that_an_earlier_version_began_goes_on_and_says_so(folder, caplog):
    call(folder, *both(folder)[2:])
    labels = folder / 'view/labels'
    record = read_claim(labels / 'export.json')
    assert record.pop('downsampling') == 'most frequent label, background last'
    (labels / 'export.json').unlink()
    claim(labels, record, 'export.json')
    shutil.rmtree(labels / 'export_blocks/2')
    assert 'earlier version' not in caplog.text
    call(folder, *both(folder)[2:])
    assert 'was begun by an earlier version' in caplog.text
    assert (labels / 'export_blocks/2').is_dir()
    assert 'downsampling' not in read_claim(labels / 'export.json')
