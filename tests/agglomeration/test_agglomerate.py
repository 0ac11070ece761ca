"""Agglomeration from a volume of pieces to a table of merges, with a network that floods."""

import csv
import dataclasses
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ffn.agglomeration import joined_volume, merges
from ffn.agglomeration.evidence_table import ROW, EvidenceTable
from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.merge_model import Logistic, MergeModel, Sigmoid, read_model, write_model
from ffn.cli import agglomerate, apply_edits
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.run_report.joins import read_joins
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.merge_table import read_merge_table
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import VolumeSource, open_volume
from tests.proofreading.samples import decision, merge

CUT, OTHER = (10, 2**40), 30


@pytest.fixture
def folder(flood_folder):
    """The flood sample, its body along x cut in two, and pieces that touch but are apart."""
    labels = np.zeros((20, 26, 38), np.uint64)
    labels[2:18, 2:10, 2:20] = CUT[0]
    labels[2:18, 2:10, 20:36] = CUT[1]
    labels[3:9, 13:24, 4:33] = OTHER
    with h5py.File(flood_folder / 'labels.h5', 'w') as file:
        file['split'] = labels
    inference = (flood_folder / 'request.pbtxt').read_text()
    (flood_folder / 'again.pbtxt').write_text(f"""
      output_directory: "{flood_folder}/again" radius {{ x: 16 y: 8 z: 10 }}
      analysis_radius {{ x: 10 y: 6 z: 8 }} segment_recovery_fraction: 0.6
      inference {{ {inference} concurrent_requests: 2 batch_size: 2
        init_segmentation {{ hdf5: "{flood_folder}/labels.h5:split" }} }}
    """)
    return flood_folder


def run(folder, *more):
    return agglomerate.main(
        [
            '--resegmentation_request',
            str(folder / 'again.pbtxt'),
            '--max_distance',
            '4',
            '--block_size',
            '16,26,12',
            '--quiet',
            *more,
        ]
    )


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_pieces_of_one_body_are_joined(folder, repository):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'ffn.assembly.agglomerate',
            '--resegmentation_request',
            str(folder / 'again.pbtxt'),
            '--max_distance',
            '4',
            '--quiet',
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
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


def by_iou(path):
    """A fit by which the probability is a half where 0.4 of two objects overlap."""
    classifier = Logistic(
        np.array([0]), np.array([1]), np.array([0.4]), np.array([0.1]), np.array([1.0]), 0.0
    )
    write_model(path, MergeModel(('iou',), classifier, Sigmoid(1.0, 0.0)))
    return str(path)


def test_a_fit_decides(folder, caplog):
    fit = by_iou(folder / 'fit.json')
    fixed = run(folder)
    found = run(folder, '--model', fit)
    assert (found.pairs, found.accepted, found.equivalences) == (3, 1, fixed.equivalences)
    assert 'the fit was made with other settings' in caplog.text
    table = {(int(row['id_a']), int(row['id_b'])): row for row in rows(folder / 'again/merges.csv')}
    joined, apart = table[CUT], table[OTHER, CUT[1]]
    assert float(joined['probability']) == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-4)
    assert joined['note'] == ''
    assert float(apart['probability']) == pytest.approx(1 / (1 + np.exp(4)), abs=1e-4)
    assert (apart['accepted'], apart['note']) == ('0', 'improbable')
    # Proofreading takes these probabilities.
    pairs = {(pair.a, pair.b): pair for pair in read_merge_table(folder / 'again/merges.csv').pairs}
    assert pairs[CUT].probability == float(joined['probability'])
    assert (pairs[CUT].accepted, pairs[OTHER, CUT[1]].accepted) == (True, False)
    joins = read_joins(folder / 'again')
    assert (joins.score, joins.accepted, joins.not_scored) == ('probability', 1, 0)
    # Without the fit, everything is as before.
    assert run(folder) == fixed
    assert not any('probability' in row for row in rows(folder / 'again/merges.csv'))


def test_somata_and_sizes_forbid(folder):
    fit = by_iou(folder / 'fit.json')
    with h5py.File(folder / 'labels.h5', 'a') as file:
        somata = np.zeros(file['split'].shape, np.uint8)
        somata[4:9, 3:6, 5:8], somata[4:9, 3:6, 25:28] = 1, 2
        file['somata'], file['one_value'] = somata, np.minimum(somata, 1)

    def notes(*more):
        run(folder, '--model', fit, *more)
        return {row['note'] for row in rows(folder / 'again' / 'merges.csv')} - {'improbable'}

    for name in ('somata', 'one_value'):
        spec = f'{folder}/labels.h5:{name}'
        assert notes('--somata', spec, '--soma_min_voxels', '40') == {'both objects have a soma'}
        assert notes('--somata', spec, '--soma_min_voxels', '60') == {''}
    assert notes('--soma_size', '1000') == {'both objects have a soma'}
    voxels = 16 * 8 * (18 + 16)
    assert notes('--max_voxels', str(voxels - 1)) == {'the object would be too large'}
    assert notes('--max_voxels', str(voxels)) == {''}
    with h5py.File(folder / 'labels.h5', 'a') as file:
        file['none'] = np.zeros(somata.shape, np.float32)
    with pytest.raises(UserError, match=r'labels\.h5:none holds float32'):
        notes('--somata', f'{folder}/labels.h5:none')


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


def test_fitting_says_what_it_lacks(folder, monkeypatch, caplog):
    truth = f'{folder}/labels.h5:split'
    with pytest.raises(UserError, match=r'too few pairs to fit to: 0 within an object'):
        run(folder, '--fit', truth)
    with h5py.File(folder / 'labels.h5', 'a') as file:
        file['small'] = file['split'][:10]
    with pytest.raises(UserError, match=r'labels\.h5:small covers .*, and not all of'):
        run(folder, '--fit', f'{folder}/labels.h5:small')
    (folder / 'pairs.csv').write_text('id_a,id_b,label\n10,30,0\n10,40,1\n')
    with pytest.raises(
        UserError, match=r'too few pairs to fit to: 0 .* of 0 objects, and 1 of two'
    ):
        run(folder, '--fit_examples', f'{folder}/pairs.csv')
    assert '1 examples are left out, as these pairs are no candidates' in caplog.text
    assert 'such as 10 and 40' in caplog.text
    with pytest.raises(UserError, match=r'no such table of examples: nowhere\.csv'):
        run(folder, '--fit_examples', f'{folder}/pairs.csv,nowhere.csv')
    with pytest.raises(UserError, match=r'no such fit: nowhere\.json'):
        run(folder, '--model', 'nowhere.json')
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(UserError, match=r'--fit needs scikit-learn'):
        run(folder, '--fit', truth)


def test_a_fit_is_written_with_its_plot(folder, monkeypatch, capsys):
    """Evidence of many pairs in place of the three that there are."""
    pytest.importorskip('sklearn')
    run(folder)
    random = np.random.default_rng(0)
    table = np.zeros(600, ROW)
    table['id_a'], table['id_b'] = random.integers(1, 80, (2, 600))
    table['features'] = random.normal(size=table['features'].shape)
    same = table['id_a'] % 20 == table['id_b'] % 20
    table['features'][:, FEATURES.index('iou')] += 4 * same
    monkeypatch.setattr(EvidenceTable, 'read', lambda self: iter([table]))
    segments = np.arange(1, 80)
    overlaps = np.stack([segments, segments % 20 + 1, segments * 0 + 9], axis=1).astype(np.uint64)
    monkeypatch.setattr('ffn.agglomeration.agglomerate.count_overlaps', lambda *_: overlaps)
    run(folder, '--fit', f'{folder}/labels.h5:split')
    said = capsys.readouterr().out
    assert 'fitted to 600 pairs' in said
    assert 'gradient boosting, isotonic' in said
    assert (folder / 'again' / 'reliability.png').read_bytes().startswith(b'\x89PNG')
    fit = read_model(folder / 'again' / 'fit.json')
    p = fit.probabilities(table['features'])
    assert p[same].mean() > 0.5 > 10 * p[~same].mean()
    assert fit.fitted_on['max_distance'] == 4
    assert set(fit.fitted_on['pairs_left_out'].values()) == {0}


@pytest.mark.slow
def test_a_fit_to_what_was_proofread(folder, monkeypatch, capsys):
    """From a segmentation and its merges to a journal, examples, a fit, and what that fit joins."""
    pytest.importorskip('sklearn')
    monkeypatch.chdir(folder)
    labels = np.zeros((20, 26, 38), np.uint64)
    for x in range(2, 36):
        labels[2:18, 2:10, x], labels[3:9, 13:24, x] = 1 + (x - 2) // 3, 21 + (x - 2) // 3
    with h5py.File('labels.h5', 'w') as file:
        file['split'] = labels
    run(folder, '--min_iou', '1', '--min_consistency', '1')
    proofread = ProofreadVolume('labels.h5:split', 'again/merges.csv')
    pairs = {(pair.a, pair.b) for pair in proofread.table.pairs}
    within = [pair for pair in pairs if pair[0] // 20 == pair[1] // 20]
    with open_journal('edits.jsonl', proofread.base) as journal:
        for a, b in within:
            # Each body is four objects, as the proofreader sees it.
            if (a % 20) // 4 == (b % 20) // 4:
                journal.add(merge(a, b))
        for a, b in sorted(pairs - set(within)):
            journal.add(decision('right', a, b))
    apply_edits.main(
        [
            '--labels',
            'labels.h5:split',
            '--merges',
            'again/merges.csv',
            '--edits',
            'edits.jsonl',
            '--examples',
            'x.csv',
        ]
    )
    run(folder, '--fit_examples', 'x.csv')
    assert 'fitted to' in capsys.readouterr().out
    fit = read_model('again/fit.json')
    assert fit.fitted_on['examples'] == ['x.csv']
    assert fit.fitted_on['objects_with_pairs_within'] >= 4
    found = run(folder, '--model', 'again/fit.json')
    assert found.accepted > 10
    assert {i // 20 == j // 20 for i, j in found.equivalences.items()} == {True}


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
