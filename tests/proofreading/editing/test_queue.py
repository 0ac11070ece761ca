"""The queue: which places are in it, in which order, and `ffn queue` as it is called."""

import csv

import h5py
import numpy as np
import pytest

from ffn.cli import evaluate, queue
from ffn.distributed.local_pools import InProcess
from ffn.proofreading.editing.edits import Item
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.queue import (
    Change,
    QueueConfig,
    Queued,
    make_queue,
    measure_progress,
    times_skipped,
)
from ffn.proofreading.editing.queue_table import read_queue, write_queue
from ffn.proofreading.editing.survey import Segment, survey
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.volume import VolumeSource
from tests.proofreading.samples import AT, decision, done, edit, merge, split

BIG = 2**63 + 11


def table_of(*rows):
    """A table of (a, b, accepted, probability)."""
    pairs = [ScoredPair(a, b, 0.0, Xyz(a % 50, b % 50, 3), ok, p) for a, b, ok, p in rows]
    return MergeTable(pairs, [(one.a, one.b) for one in pairs if one.accepted])


def sizes(**voxels):
    return {int(i[1:]): Segment(n, True, AT) for i, n in voxels.items()}


def queue_of(table, segments, edits=(), report=None, **config):
    objects = replay(table.neighbours(), [edit(n, what) for n, what in enumerate(edits, 1)])
    return make_queue(QueueConfig(**config), table, objects, segments, report)


def keys(found):
    return [one.item.key for one in found]


def test_pairs_by_the_voxels_that_are_expected_to_be_wrong():
    table = table_of((1, 2, True, 0.6), (1, 3, False, 0.5), (2, 4, False, 0.05), (5, 6, True, None))
    found = queue_of(table, sizes(s1=1000, s2=100, s3=300, s4=900, s5=10, s6=20))
    # 2 and 4 are apart almost certainly.
    assert keys(found) == ['pair:1-3', 'pair:1-2', 'pair:5-6']
    assert [one.priority for one in found] == [pytest.approx(n) for n in (150, 40, 5)]
    assert found[1].reason == 'joined, probability 0.60, 100 and 1,000 voxels'


def test_the_sides_of_a_join_are_what_stronger_joins_made():
    """2 is small, but what it connects is not."""
    table = table_of((1, 2, True, 0.875), (2, 3, True, 0.95), (3, 4, True, 0.99))
    found = queue_of(table, sizes(s1=500, s2=1, s3=400, s4=300), min_doubt=0.1, jump_voxels=10**6)
    assert keys(found) == ['pair:1-2']
    assert found[0].priority == pytest.approx(0.125 * 500)
    jumps = queue_of(table, sizes(s1=500, s2=1, s3=400, s4=300), min_doubt=0.2, jump_voxels=300)
    assert keys(jumps) == ['jump:1-2', 'jump:3-4']


def test_a_join_that_stronger_ones_have_made_already_is_about_its_own_sides():
    """1 and 2 are joined with 3 surely; what a cut between them would change is small."""
    segments = sizes(s1=100, s2=120, s3=10**6, s4=5000, s5=6000)
    for probability in (0.85, 0.95):
        table = table_of(
            (1, 3, True, 0.99), (2, 3, True, 0.99), (1, 2, True, probability), (4, 5, True, 0.6)
        )
        first, *others = queue_of(table, segments)
        assert first.item.key == 'pair:4-5'
        assert [one.priority for one in others] == [pytest.approx(0.15 * 100)][probability > 0.9 :]


def test_a_pair_that_is_apart_counts_with_the_objects_that_joining_it_makes_one():
    table = table_of((1, 3, True, 0.99), (2, 4, True, 0.99), (1, 2, False, 0.6), (5, 6, False, 0.6))
    found = queue_of(table, sizes(s1=50, s2=60, s3=1000, s4=2000, s5=300, s6=310))
    assert keys(found) == ['pair:1-2', 'pair:5-6']
    assert [one.priority for one in found] == [pytest.approx(0.6 * n) for n in (1050, 300)]
    assert found[0].reason == 'apart, probability 0.60, 1,050 and 2,060 voxels'


def test_an_object_that_touches_itself():
    table = table_of((1, 2, True, 0.99), (2, 3, True, 0.99), (1, 3, False, 0.3))
    found = queue_of(table, sizes(s1=50, s2=60, s3=70))
    assert keys(found) == ['loop:1-3']
    assert found[0].priority == pytest.approx(0.7 * 50)


def test_orphans():
    segments = {
        1: Segment(90, False, AT),
        2: Segment(50, False, AT),
        3: Segment(30, True, AT),
        4: Segment(500, False, AT),
        5: Segment(20, False, AT),
        6: Segment(10, False, AT),
    }
    table = table_of((2, 3, True, 0.99))
    found = queue_of(table, segments, [done(6)], orphan_voxels=400)
    # 2 reaches a face through 3, 4 is no small object, 6 is done.
    assert keys(found) == ['orphan:1', 'orphan:5']
    assert keys(queue_of(table, segments, [merge(1, 5)], orphan_voxels=400)) == [
        'orphan:1',
        'orphan:6',
    ]


def test_an_orphan_is_expected_to_be_of_an_object_of_usual_size():
    segments = {1: Segment(100, False, AT), 2: Segment(700, True, AT), 3: Segment(200, True, AT)}
    usual = (100**2 + 700**2 + 200**2) / 1000
    for rank in ('voxels', 'voi', 'run_length'):
        [orphan] = queue_of(table_of(), segments, rank_by=rank)
        assert orphan.priority == pytest.approx(Change(rank, 1000)(100, usual))
    large = {**segments, 1: Segment(100_000 - 1, False, AT), 4: Segment(50, False, AT)}
    first, _ = queue_of(table_of(), large, rank_by='run_length')
    whole = 100_000 - 1 + 950
    assert first.priority == pytest.approx(2 * (100_000 - 1) ** 2 / whole)


def test_what_was_judged_or_merged_by_hand_is_not_shown_again():
    table = table_of((1, 2, False, 0.5), (3, 4, False, 0.5), (5, 6, False, 0.5))
    segments = sizes(s1=9, s2=9, s3=9, s4=9, s5=9, s6=9)
    edits = [decision('right', 1, 2), decision('skip', 3, 4), merge(5, 6)]
    assert keys(queue_of(table, segments, edits)) == ['pair:3-4']
    progress = measure_progress(replay({}, [edit(n, what) for n, what in enumerate(edits)]))
    assert progress == (1, 0, 1, 2.5)


def test_a_queue_says_which_segmentation_it_is_of(tmp_path):
    path, found = tmp_path / 'q.csv', [Queued(Item('pair', (1, BIG), AT), 2.5, 'apart, unknown')]
    write_queue(path, found, 'abc')
    assert read_queue(path, 'abc') == read_queue(path) == found
    with pytest.raises(UserError, match=r'made from abc, and not from abd.*run ffn queue again'):
        read_queue(path, 'abd')
    # As earlier versions wrote it.
    rows = [line.rpartition(',')[0] for line in path.read_text().splitlines()]
    path.write_text('\n'.join(rows) + '\n')
    (tmp_path / 'q.csv.crc').unlink()
    assert read_queue(path, 'abd') == found
    path.write_text(f'{rows[0]}\n{rows[1]},abd\n')
    with pytest.raises(UserError, match=r'q\.csv, line 2: '):
        read_queue(path, 'abd')


def test_what_was_joined_or_taken_apart_is_not_shown_again():
    """Also where it was pointed at other segments of the objects."""
    table = table_of((1, 2, True, 0.97), (2, 3, True, 0.6), (4, 5, False, 0.3), (6, 7, False, 0.5))
    segments = sizes(s1=500, s2=60, s3=700, s4=80, s5=90, s6=10, s7=20, s8=30)
    edits = [split([1], [2, 3]), merge(4, 8), merge(8, 5), merge(6, 8)]
    assert keys(queue_of(table, segments, edits, jump_voxels=9)) == ['pair:2-3', 'pair:6-7']
    assert 'loop:4-5' not in keys(queue_of(table, segments, edits[1:]))
    error = {'id': 9, 'pieces': [{'id': 1}, {'id': 3, 'voxels': 700}], 'at_xyz': [1, 2, 3]}
    error['pieces'][0]['voxels'] = 500
    report = {'splits': [error], 'mergers': [], 'missing': []}
    assert 'split:1-3' not in keys(queue_of(table, segments, edits, report))
    apart = queue_of(table_of(), segments, [], report)
    assert 'split:1-3' in keys(apart)


def test_a_skipped_place_says_so_in_the_next_queue():
    table, segments = table_of((1, 2, False, 0.5)), sizes(s1=9, s2=9)
    for skips, told in ((1, 'skipped 1 time'), (12, 'skipped 12 times')):
        [one] = queue_of(table, segments, [decision('skip', 1, 2)] * skips)
        assert one.reason.endswith(f'9 and 9 voxels, {told}')
        assert times_skipped(one) == skips
    [one] = queue_of(table, segments)
    assert times_skipped(one) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A volume with a split body, a merged one, and an orphan."""
    truth = np.zeros((20, 30, 50), np.uint64)
    truth[2:18, 2:8], truth[2:18, 10:14], truth[2:18, 16:20] = 1, 2, 3
    truth[5:9, 24:27, 10:20] = 4
    labels = np.where(truth == 3, 2, truth)
    labels[:, :, 30:][truth[:, :, 30:] == 1] = BIG
    labels[labels == 4] = 40
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['truth'], file['labels'] = truth, labels
    (tmp_path / 'merges.csv').write_text(
        f'id_a,id_b,distance,x,y,z,accepted,iou\n1,{BIG},0,30,4,9,0,0.7\n1,2,2,9,9,9,0,\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


VOLUME = ('--labels', 'v.h5:labels', '--merges', 'merges.csv')


def test_the_table(folder, capsys):
    volumes = ['--segmentation', 'v.h5:labels', '--groundtruth', 'v.h5:truth']
    evaluate.main([*volumes, '--json', 'e.json', '--boundary', '0'])
    call = [*VOLUME, '--output', 'q.csv', '--errors', 'e.json', '--quiet']
    queue.main(call)
    with open('q.csv', newline='') as file:
        rows = {f'{row["kind"]}:{row["ids"]}': row for row in csv.DictReader(file)}
    assert set(rows) == {f'pair:1-{BIG}', 'pair:1-2', f'split:1-{BIG}', 'merger:2', 'orphan:40'}
    assert float(rows[f'pair:1-{BIG}']['priority']) == pytest.approx(0.7 * 16 * 6 * 20)
    assert float(rows[f'split:1-{BIG}']['priority']) == 16 * 6 * 20
    orphan = rows['orphan:40']
    assert [orphan[n] for n in 'xyz'] == ['10', '24', '5']
    assert '5 places in q.csv (2 pair, 1 ' in capsys.readouterr().out
    assert [one.item.key for one in read_queue('q.csv')] == list(rows)
    # What was judged is left out, and nothing is measured again.
    with open_journal('j.jsonl', ProofreadVolume(VOLUME[1], VOLUME[3]).base) as journal:
        journal.add(decision('wrong', 1, BIG))
    before = {p: p.stat().st_mtime_ns for p in folder.glob('q.csv.segments/*/*/*')}
    queue.main([*call, '--edits', 'j.jsonl'])
    assert f'pair:1-{BIG}' not in [one.item.key for one in read_queue('q.csv')]
    assert before
    assert before == {p: p.stat().st_mtime_ns for p in folder.glob('q.csv.segments/*/*/*')}


def test_segments_in_blocks_and_at_once(folder):
    rng = np.random.default_rng(3)
    labels = rng.choice(np.array([0, 1, 7, BIG], np.uint64), (9, 11, 13))
    labels[3:5, 4:6, 5:8] = 99
    with h5py.File('w.h5', 'w') as file:
        file['w'] = labels
        file['w'].attrs['offset'] = [100.0, 200.0, 300.0]  # z, y, x
        file['w'].attrs['resolution'] = [1.0, 1.0, 1.0]
    source = VolumeSource('w.h5:w')
    whole = survey(source, folder / 'one', InProcess(), True)
    parts = survey(source, folder / 'parts', InProcess(), True, Xyz(4, 5, 6))
    assert {i: s[:2] for i, s in whole.items()} == {i: s[:2] for i, s in parts.items()}
    assert whole[99] == Segment(12, False, Xyz(305, 204, 103))
    assert sum(s.voxels for s in whole.values()) == np.count_nonzero(labels)
    assert all(s.at_face for i, s in whole.items() if i != 99)
    for segment, (_, _, point) in parts.items():
        assert labels[point.z - 100, point.y - 200, point.x - 300] == segment


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[]', 'no JSON object'),
        ('{"splits": []}', 'not one that ffn evaluate --json writes .*mergers'),
        ('{"splits": [{"pieces": [{"id": 1.5}, {"id": 2}]}]}', 'no id'),
    ],
)
def test_reports_that_are_none(folder, text, words):
    (folder / 'e.json').write_text(text)
    with pytest.raises(UserError, match=words):
        queue.main([*VOLUME, '--output', 'q.csv', '--errors', 'e.json', '--quiet'])


def test_labels_of_another_program_that_are_written_anew(folder):
    call = [*VOLUME, '--output', 'q.csv', '--objects', 'o.csv', '--quiet']
    queue.main(call)
    before = (folder / 'o.csv').read_text()
    assert '\n40,' in before
    with h5py.File('v.h5', 'a') as file:
        file['labels'][file['labels'][...] == 40] = 41
    queue.main(call)
    assert (folder / 'o.csv').read_text() == before.replace('\n40,', '\n41,')
    assert 'orphan:41' in keys(read_queue('q.csv'))


def test_outputs_in_the_file_of_the_labels(folder):
    """They change its size and time; nothing is measured or written anew for that."""
    call = [*VOLUME, '--output', 'q.csv', '--quiet', '--others', 'v.h5:truth']
    call += ['--disagreement', 'v.h5:doubt']
    queue.main(call)
    files = [folder / 'v.h5', *(folder / 'q.csv.segments').glob('*/*/*.npy')]
    assert len(files) > 1
    before = [file.stat().st_mtime_ns for file in files]
    queue.main(call)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_another_volume(folder):
    queue.main([*VOLUME, '--output', 'q.csv', '--quiet'])
    with pytest.raises(UserError, match=r'other settings: labels is .*v\.h5:labels there'):
        queue.main(['--labels', 'v.h5:truth', '--output', 'q.csv', '--quiet'])
    (folder / 'q.csv').write_text('a,b\n')
    with pytest.raises(UserError, match='run ffn queue again'):
        read_queue(folder / 'q.csv')
    (folder / 'q.csv.crc').unlink()
    with pytest.raises(UserError, match='is no queue, with columns kind,ids'):
        read_queue(folder / 'q.csv')


def test_items_have_keys():
    assert Item('missing', (), Xyz(1, 2, 3)).key == 'missing:1,2,3'
