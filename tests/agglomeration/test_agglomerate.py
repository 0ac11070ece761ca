"""Agglomeration from a volume of pieces to a table of merges, with a network that floods."""

import dataclasses
import re
import textwrap

import h5py
import numpy as np
import pytest

from ffn.agglomeration import joined_volume, merges
from ffn.agglomeration.evidence import SCORES
from ffn.agglomeration.features import FEATURES
from ffn.distributed.local_pools import InProcess
from ffn.proofreading.editing.merge_table import read_merge_table
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import VolumeSource, open_volume
from tests.agglomeration.pieces import CUT, OTHER, by_iou, rows, run
from tests.loaded import run_loaded


def test_pieces_of_one_body_are_joined(folder, repository):
    arguments = '--resegmentation_request', folder / 'again.pbtxt', '--max_distance=4', '--quiet'
    done = run_loaded(repository, '-m', 'ffn.assembly.agglomerate', *arguments)
    assert done.returncode == 0, done.stderr
    assert '3 pairs, 1 accepted, 0 could not be resegmented; 2 segments become 1' in done.stdout
    table = rows(folder / 'again' / 'merges.csv')
    accepted = {(int(row['id_a']), int(row['id_b'])): row['accepted'] for row in table}
    assert accepted == {CUT: '1', (CUT[0], OTHER): '0', (OTHER, CUT[1]): '0'}
    joined = next(row for row in table if row['accepted'] == '1')
    assert float(joined['iou']) == 1
    assert float(joined['b_in_from_a']) > 0.6
    assert (folder / 'again' / 'equivalences.csv').read_text().split() == [
        'id,joined_id',
        '10,10',
        f'{2**40},10',
    ]


def test_what_is_finished_is_not_done_again(folder):
    first = run(folder)
    results = sorted((folder / 'again').glob('*.npz'))
    assert len(results) == first.pairs == 3
    before = [path.stat().st_mtime_ns for path in results]
    results[1].unlink()
    assert run(folder) == first
    after = [path.stat().st_mtime_ns for path in results]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_thresholds_may_change_the_rest_may_not(folder):
    run(folder)
    assert run(folder, '--min_consistency', '0.99').accepted == 0
    with pytest.raises(UserError, match=r'other settings: block_size is'):
        run(folder, '--block_size', '9,9,9')


def test_a_pair_that_cannot_be_done_keeps_none_from_it(folder):
    text = (folder / 'again.pbtxt').read_text()
    (folder / 'again.pbtxt').write_text(
        text.replace('radius { x: 16 y: 8 z: 10 }', 'radius { x: 16 y: 2 z: 10 }', 1)
    )
    found = run(folder)
    table = rows(folder / 'again' / 'merges.csv')
    notes = {(int(row['id_a']), int(row['id_b'])): row['note'] for row in table}
    # Between the bodies, a box of ±2 voxels holds the border of one of them only.
    assert notes[CUT] == ''
    assert any('is not in the segmentation' in note for note in notes.values())
    assert found.impossible == sum(note != '' for note in notes.values()) > 0


def test_what_was_not_grown_has_no_scores(folder):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['raw'][:, :, :20] = 1  # the first piece is not recovered
    with open(folder / 'again.pbtxt', 'a') as file:
        file.write('terminate_early: true')
    run(folder)
    for _ in range(2):  # as well where the pairs are there already
        table = {(int(r['id_a']), int(r['id_b'])): r for r in rows(folder / 'again/merges.csv')}
        empty = {name for name, value in table[CUT].items() if value == ''}
        assert empty == {'iou', *(name for name in SCORES if name.endswith('from_b'))}
        assert float(table[CUT]['voxels_from_a']) == 0
        assert table[CUT]['accepted'] == '0'
        assert (
            table[CUT]['note'] == 'the first object was not recovered, so the second was not grown'
        )
        known = read_merge_table(folder / 'again/merges.csv').by_pair()
        assert known[CUT].probability is None
        assert run(folder).impossible == 0
    # The features, by which fits decide, are those that they were fitted to.
    (path,) = (folder / 'again/evidence').rglob('*.npy')
    table = np.load(path)
    pair = (table['id_a'] == CUT[0]) & (table['id_b'] == CUT[1])
    assert table['features'][pair, FEATURES.index('iou')].tolist() == [0]


def test_an_image_that_cannot_be_read_is_no_answer(folder):
    with h5py.File(folder / 'volume.h5') as file:
        raw = file['raw'][:]
    with h5py.File(folder / 'volume.h5', 'w') as file:
        data = file.create_dataset('raw', data=raw, chunks=raw.shape, compression='gzip')
        offset = data.id.get_chunk_info(0).byte_offset
    damaged = bytearray((folder / 'volume.h5').read_bytes())
    damaged[offset : offset + 40] = b'\xff' * 40
    (folder / 'volume.h5').write_bytes(damaged)
    with pytest.raises(UserError, match='may be damaged'):
        run(folder)
    assert not (folder / 'again' / 'merges.csv').exists()


def test_an_output_that_cannot_be_is_refused_at_once(folder):
    (folder / 'there').mkdir()
    (folder / 'there' / 'notes.txt').touch()
    for spec, words in (
        ('joined.h5', 'path:dataset'),
        (f'zarr://{folder}/there', 'exists and does not belong to this run'),
        ('tiff://a', 'unknown kind of volume'),
        (f'zarr://{folder}/z --shard_size 64,64,64', 'has no shards'),
        (f'precomputed://{folder}/p', r'p stores .* voxels, which nothing says: give --voxel_size'),
    ):
        with pytest.raises(UserError, match=words):
            run(folder, '--output_volume', *spec.split())
    assert not (folder / 'again').exists()


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        ('--max_distance inf', 'max_distance is inf; expected a positive number'),
        ('--max_distance nan', 'max_distance is nan'),
        ('--max_distance -4', 'max_distance is -4'),
        ('--block_size 16,0,12', 'block_size is x,y,z 16,0,12; expected 1 or more'),
        ('--max_voxels 900', '--max_voxels does nothing without --model, as thresholds decide'),
        ('--soma_size 900', '--soma_size does nothing without --model'),
        ('--somata labels.h5:split', '--somata does nothing without --model'),
        (
            '--fit labels.h5:split --min_probability 0.9',
            'does nothing without --model, .* with --fit',
        ),
        ('--model fit.json --min_iou 0.9', '--min_iou does nothing with --model'),
        ('--model fit.json --somata labels.h5:small', r'labels\.h5:small covers .* and not all of'),
        ('--fit labels.h5:small', r'labels\.h5:small covers .* and not all of'),
        ('--fit labels.h5:real', r'labels\.h5:real holds float32'),
        ('--fit nowhere.h5:labels', r'nowhere\.h5'),
    ],
)
def test_mistakes_are_told_before_a_folder_is_claimed(folder, monkeypatch, more, words):
    monkeypatch.chdir(folder)
    monkeypatch.setattr('ffn.cli.agglomerate.require_scikit_learn', lambda: None)
    by_iou(folder / 'fit.json')
    with h5py.File('labels.h5', 'a') as file:
        file['small'] = file['split'][:10]
        file['real'] = file['split'][:].astype(np.float32)
    with pytest.raises(UserError, match=words):
        run(folder, *more.split())
    assert not (folder / 'again' / 'manifest.json').exists()


def test_evidence_is_gathered_once(folder):
    run(folder)
    tables = sorted((folder / 'again' / 'evidence').rglob('*.npy'))
    assert len(tables) == 1
    (before,) = (path.stat().st_mtime_ns for path in tables)
    run(folder, '--min_iou', '0.5')
    assert tables[0].stat().st_mtime_ns == before
    next((folder / 'again').glob('*.npz')).unlink()
    run(folder)
    assert tables[0].stat().st_mtime_ns != before
    data = bytearray(tables[0].read_bytes())
    data[-3] ^= 1
    tables[0].write_bytes(data)
    with pytest.raises(UserError, match=r'0\.npy is damaged.*; remove it, and run again'):
        run(folder)


def test_given_points_are_refused_and_processed_as_the_reference_says(
    folder, repository, monkeypatch, capsys
):
    points = ''.join(
        f'points {{ id_a: {a} {b} point {{ x: 20 y: 6 z: 9 }} }}\n'
        for a, b in ((CUT[1], f'id_b: {CUT[0]}'), (CUT[0], ''))
    )
    asked = folder / 'again.pbtxt'
    asked.write_text(points + asked.read_text())
    with pytest.raises(UserError, match=r'points is set, 2 of them: .*process_point'):
        run(folder)
    asked.rename(folder / 'points.pbtxt')
    monkeypatch.chdir(folder)
    text = (repository / 'doc' / 'reference.md').read_text().partition('### Given points')[2]
    block = re.search(r'\n\n((?:    .*\n|\n)+)', text)[1]
    exec(compile(textwrap.dedent(block), 'doc/reference.md', 'exec'), {})
    pair, endpoint = capsys.readouterr().out.splitlines()
    assert pair.endswith(f'{CUT[1]}-{CUT[0]}_at_20_6_9.npz True')
    assert endpoint.endswith(f'{CUT[0]}-0_at_20_6_9.npz [{CUT[1]}]')


def test_bad_input(folder):
    with pytest.raises(UserError, match='outside the segmentation'):
        run(folder, '--bounding_box', 'start { x:99 y:0 z:0 } size { x:9 y:9 z:9 }')
    run(folder)
    (folder / 'again' / 'manifest.json').write_text('[]')
    with pytest.raises(UserError, match=r'manifest\.json is no manifest'):
        run(folder)


@pytest.mark.parametrize('spec', ['joined.h5:labels', 'zarr://joined.zarr', 'precomputed://joined'])
def test_the_joined_volume(folder, monkeypatch, spec):
    monkeypatch.chdir(folder)
    more = ('--output_volume', spec, '--voxel_size', '8,9,30')
    run(folder, *more)
    with open_volume(spec) as joined, open_volume('labels.h5:split') as split:
        expected = split.read(split.box)
        expected[expected == CUT[1]] = CUT[0]
        np.testing.assert_array_equal(joined.read(joined.box), expected)
    files = [p for p in folder.rglob('*') if 'joined' in str(p.relative_to(folder).parts[0])]
    assert files
    before = [p.stat().st_mtime_ns for p in files]
    run(folder, *more)
    assert [p.stat().st_mtime_ns for p in files] == before
    with pytest.raises(UserError, match='exists and does not belong to this run'):
        run(folder, '--output_volume', 'labels.h5:split')


def test_the_voxel_size_of_the_segmentation(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    with h5py.File('labels.h5', 'a') as file:
        file['split'].attrs['resolution'] = [30.0, 9.0, 8.0]  # z, y, x
    run(folder, '--output_volume', 'precomputed://joined')
    assert 'the voxel size is not known: max_distance 4 counts voxels' in caplog.text
    assert 'contradict' not in caplog.text
    with open_volume('precomputed://joined') as joined:
        assert joined.voxel_size.xyz == (8, 9, 30)
    run(folder, '--voxel_size', '4,9,30')
    assert 'x,y,z 4,9,30 nm (--voxel_size), but x,y,z 8,9,30 nm (' in caplog.text


@pytest.mark.slow
def test_on_dask(folder, monkeypatch):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    monkeypatch.chdir(folder)
    run(folder, '--scheduler', 'local', '--workers', '2', '--output_volume', 'zarr://on_dask')
    tables = {path.name: path.read_bytes() for path in (folder / 'again').glob('*.csv')}
    (folder / 'again').rename(folder / 'before')
    run(folder, '--output_volume', 'alone.h5:labels')
    assert tables == {path.name: path.read_bytes() for path in (folder / 'again').glob('*.csv')}
    with open_volume('zarr://on_dask') as one, open_volume('alone.h5:labels') as other:
        np.testing.assert_array_equal(one.read(one.box), other.read(other.box))


def test_the_joined_volume_goes_on(folder, monkeypatch):
    monkeypatch.setattr(joined_volume, 'BLOCK_CHUNKS', 1)
    with h5py.File(folder / 'labels.h5') as file:
        labels = file['split'][:]
    source = VolumeSource(f'{folder}/labels.h5:split')
    box = Box(Xyz(3, 5, 2), Xyz(33, 20, 17))
    output = OutputSpec(f'zarr://{folder}/joined', box, Xyz(8, 8, 8))
    arguments = (source, {CUT[1]: CUT[0]}, output, folder, InProcess(), True)
    whole, done = joined_volume.read_joined, []

    def seven_then_stop(*args):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(args)
        return whole(*args)

    monkeypatch.setattr(joined_volume, 'read_joined', seven_then_stop)
    with pytest.raises(KeyboardInterrupt):
        joined_volume.write_joined(*arguments)
    monkeypatch.setattr(joined_volume, 'read_joined', lambda *a: done.append(a) or whole(*a))
    joined_volume.write_joined(*arguments)
    # Chunks begin at 8, 16, 24 and 32 along x, 8, 16 and 24 along y, 8 and 16 along z; those that
    # begin before the box belong to the next.
    assert len(done) == 4 * 3 * 2
    expected = np.where(labels == CUT[1], CUT[0], labels)[box.slices_zyx]
    with open_volume(output.spec) as volume:
        np.testing.assert_array_equal(volume.read(box), expected)
    blocks = [args[2] for args in done]
    assert len({block.start for block in blocks}) == len(blocks)
    starts = {v for block in blocks for v, first in zip(block.start, box.start) if v != first}
    assert starts == {16, 24, 32}
    # Other merges are written anew.
    done.clear()
    joined_volume.write_joined(source, {}, *arguments[2:])
    assert len(done) == len(blocks)
    with open_volume(output.spec) as volume:
        np.testing.assert_array_equal(volume.read(box), labels[box.slices_zyx])


def test_the_joined_volume_in_shards(folder):
    with h5py.File(folder / 'labels.h5') as file:
        labels = file['split'][:]
    source = VolumeSource(f'{folder}/labels.h5:split')
    box = Box(Xyz(3, 5, 2), Xyz(33, 20, 17))
    output = OutputSpec(
        f'precomputed://{folder}/shards', box, Xyz(4, 4, 4), (8, 8, 8), Xyz(16, 16, 16)
    )
    joined_volume.write_joined(source, {CUT[1]: CUT[0]}, output, folder, InProcess(), True)
    with open_volume(output.spec) as volume:
        expected = np.where(labels == CUT[1], CUT[0], labels)[box.slices_zyx]
        np.testing.assert_array_equal(volume.read(box), expected)
    filled = [part for part in output.shards.cut(box) if labels[part.slices_zyx].any()]
    assert len(list((folder / 'shards').rglob('*.shard'))) == len(filled) > 1


def test_volumes_that_earlier_versions_began_are_known_by_their_description():
    output = OutputSpec('zarr:///a', Box(Xyz(3, 5, 2), Xyz(33, 20, 17)), Xyz(8, 8, 8))
    earlier = (
        "OutputSpec(spec='zarr:///a', box=Box(start=Xyz(x=3, y=5, z=2), size=Xyz(x=33, y=20, z=17)), "
        'chunk=Xyz(x=8, y=8, z=8), voxel_size=(1.0, 1.0, 1.0))'
    )
    assert joined_volume.describe(output) == earlier
    sharded = dataclasses.replace(output, shard=Xyz(16, 16, 16))
    assert joined_volume.describe(sharded) != earlier


def test_joined_by_hand():
    pairs = [(5, 9), (2**63 + 1, 9), (3, 4)]
    assert merges.join_ids(pairs) == {5: 5, 9: 5, 2**63 + 1: 5, 3: 3, 4: 3}
    assert merges.join_ids([]) == {}
