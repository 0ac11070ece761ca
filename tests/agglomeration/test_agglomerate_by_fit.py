"""`ffn agglomerate` with --fit, --fit_examples and --model."""

import dataclasses
import re
import sys

import h5py
import numpy as np
import pytest

from ffn.agglomeration.decisions import warn_of_differences
from ffn.agglomeration.evidence_table import ROW, EvidenceTable
from ffn.agglomeration.features import FEATURES, VERSION
from ffn.agglomeration.merge_model import read_model, write_model
from ffn.cli import apply_edits
from ffn.evaluation.run_report.joins import read_joins
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.merge_table import read_merge_table
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from tests.agglomeration.pieces import CUT, OTHER, by_iou, rows, run
from tests.proofreading.samples import decision, merge


def test_a_fit_decides(folder, caplog):
    fit = by_iou(folder / 'fit.json')
    fixed = run(folder)
    found = run(folder, '--model', fit)
    assert (found.pairs, found.accepted, found.equivalences) == (3, 1, fixed.equivalences)
    # Earlier versions did not store all that counts; what this fit does not say is no difference.
    assert 'the fit was made with other settings' in caplog.text
    assert 'may not hold: max_distance is 8 there and 4.0 here\n' in caplog.text
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
    # A fit that does not say what it was made of has the features of earlier versions.
    before = dataclasses.replace(read_model(fit), fitted_on={})
    told = f'features is 1 there and {VERSION} here'
    warn_of_differences(
        before, {'features': VERSION, 'voxel_size': [8, 8, 8]}
    )  # the same for cubes
    assert told not in caplog.text
    warn_of_differences(before, {'features': VERSION, 'voxel_size': [8, 8, 33]})
    assert told in caplog.text
    # Without the fit, everything is as before.
    assert run(folder) == fixed
    assert not any('probability' in row for row in rows(folder / 'again/merges.csv'))


def test_a_pair_of_which_one_object_was_grown_joins_nothing(folder, monkeypatch):
    run(folder)
    table = np.zeros(4, ROW)
    table['id_a'], table['id_b'] = [1, 3, 5, 6], [2, 4, 6, 7]
    table['features'][:, FEATURES.index('iou')] = 1
    table['features'][:, FEATURES.index('grown')] = [2, 1, 1, 0]
    table['features'][3, FEATURES.index('iou')] = 0
    monkeypatch.setattr(EvidenceTable, 'read', lambda self: iter([table]))
    found = run(folder, '--model', by_iou(folder / 'fit.json'))
    assert found.equivalences == {1: 1, 2: 1}
    told = [(row['probability'], row['note']) for row in rows(folder / 'again/merges.csv')]
    assert [float(p) > 0.9 for p, _ in told] == [True, False, False, False]
    # What speaks against a join counts as before.
    assert [float(p) == 0.5 for p, _ in told] == [False, True, True, False]
    assert float(told[3][0]) < 0.1
    one_sided = 'improbable: not both objects were grown'
    assert [note for _, note in told] == ['', one_sided, one_sided, one_sided]


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


def test_fitting_says_what_it_lacks(folder, monkeypatch, caplog):
    truth = f'{folder}/labels.h5:split'
    with pytest.raises(UserError, match=r'too few pairs to fit to: 0 within an object.* are kept'):
        run(folder, '--fit', truth)
    # The decisions by thresholds are there all the same.
    assert {row['accepted'] for row in rows(folder / 'again/merges.csv')} == {'0', '1'}
    assert (folder / 'again/equivalences.csv').exists()
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


def test_a_fit_is_written_with_its_plot(folder, monkeypatch, capsys, caplog):
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
    # Used with the settings that it was made with, it says nothing of them.
    caplog.clear()
    run(folder, '--model', f'{folder}/again/fit.json')
    assert 'other settings' not in caplog.text
    assert set(fit.fitted_on['pairs_left_out'].values()) == {0}
    request = folder / 'again.pbtxt'
    text = request.read_text()
    # Another folder, arranged otherwise, of results that are the same; also of a fit of an earlier version, with cubes.
    request.write_text(text.replace('again"', 'elsewhere" subdir_digits: 2'))
    how = {**fit.fitted_on['resegmentation'], 'subdir_digits': 3}
    earlier = {**fit.fitted_on, 'resegmentation': how, 'features': 1}
    write_model(folder / 'earlier.json', dataclasses.replace(fit, fitted_on=earlier))
    for model in ('again/fit.json', 'earlier.json'):
        run(folder, '--model', f'{folder}/{model}')
    assert 'other settings' not in caplog.text
    other = re.sub('segment_threshold: [0-9.]+', 'segment_threshold: 0.35', text)
    assert other != text
    request.write_text(other.replace('again"', 'other"'))
    run(folder, '--model', f'{folder}/again/fit.json')
    assert 'inference.inference_options.segment_threshold is 0.6 there and 0.35' in caplog.text


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
