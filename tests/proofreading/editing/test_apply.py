"""`ffn apply-edits` and `ffn merge-edits` as they are called: volumes, tables, and labels that training takes."""

import csv
import itertools

import h5py
import numpy as np
import pytest

from ffn.agglomeration import joined_volume
from ffn.cli import apply_edits, coordinates, merge_edits, partitions
from ffn.proofreading.editing.cut_masks import masks_folder
from ffn.proofreading.editing.edits import Decision, Item, Note, Place, Undo
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.split import SplitInput, split_object
from ffn.training.config import DataConfig
from ffn.training.input.examples import ExampleSource
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import check_place, open_volume
from tests.proofreading.samples import decision, done, merge
from tests.proofreading.samples import split as split_of

SHAPE = (40, 46, 70)
BIG = 2**63 + 11
NOT_LABELLED = 2**64 - 1
MERGES = f"""id_a,id_b,distance,x,y,z,accepted,iou
3,{BIG},0,34,10,8,1,0.9
3,7,2,10,20,8,1,0.3
7,9,1,30,33,8,0,0.5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Bodies 3 and BIG in a row, 7 and 9 below, and 5 behind; 3, BIG and 7 are one at first."""
    labels = np.zeros(SHAPE, np.uint64)
    labels[4:14, 4:16, 2:35], labels[4:14, 4:16, 35:68] = 3, BIG
    labels[4:14, 18:30, 2:68], labels[4:14, 32:44, 2:68] = 7, 9
    labels[18:38, 4:44, 2:68] = 5
    with h5py.File(tmp_path / 'volume.h5', 'w') as file:
        file['labels'] = labels
        file['labels'].attrs['resolution'] = (30.0, 9.0, 8.0)
        file['raw'] = (labels % 251).astype(np.uint8)
    (tmp_path / 'merges.csv').write_text(MERGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


VOLUME = ('--labels', 'volume.h5:labels', '--merges', 'merges.csv')


def add(*whats, path='edits.jsonl'):
    with open_journal(path, ProofreadVolume(VOLUME[1], VOLUME[3]).base) as journal:
        return [journal.add(what).number for what in whats]


def cut_5(path='edits.jsonl', at=35):
    """Cuts body 5 in two at an x."""
    proofread = ProofreadVolume(VOLUME[1], VOLUME[3])
    with proofread.source.open() as volume, open_journal(path, proofread.base) as journal:
        objects = replay(proofread.table.neighbours(), journal.edits)
        given = SplitInput(volume, masks_folder(path), objects, proofread.table.by_pair())
        sides = [Xyz(at - 10, 24, 28)], [Xyz(at + 10, 24, 28)]
        number = 'ab' * 16
        what = split_object(given, sides, number)
        journal.add(what, number)
    return what.parts[1][0]


def apply(*arguments, edits='edits.jsonl'):
    apply_edits.main([*VOLUME, '--edits', edits, '--quiet', *arguments])


def read(spec):
    with open_volume(spec) as volume:
        return volume.as_stored().read(volume.box), volume.voxel_size


def ids_at(labels):
    """Of bodies 3, BIG, 7, 9, and 5 on its left and right."""
    return [int(labels[place]) for place in PLACES]


PLACES = ((8, 10, 10), (8, 10, 60), (8, 20, 30), (8, 40, 30), (28, 24, 10), (28, 24, 60))


@pytest.mark.parametrize('spec', ['corrected.h5:labels', 'zarr://corrected', 'precomputed://c'])
def test_the_corrected_volume(folder, spec, capsys):
    part = cut_5()
    add(split_of([3, BIG], [7]), merge(7, 9))
    apply('--output_volume', spec)
    assert '4 segments are 2 objects, 1 segments were cut, 0 objects are done' in (
        capsys.readouterr().out
    )
    labels, voxel_size = read(spec)
    assert ids_at(labels) == [3, 3, 7, 7, 5, part]
    assert voxel_size.xyz == (8, 9, 30)
    base, _ = read('volume.h5:labels')
    np.testing.assert_array_equal(labels > 0, base > 0)
    # More edits, the same volume.
    add(merge(5, part), merge(5, 9))
    apply('--output_volume', spec)
    assert ids_at(read(spec)[0]) == [3, 3, 5, 5, 5, 5]
    with h5py.File('volume.h5', 'a') as file:  # as another program writes it anew
        file['labels'][:20] = 0
    apply('--output_volume', spec)
    assert ids_at(read(spec)[0]) == [0, 0, 0, 0, 5, 5]


def test_it_goes_on_from_where_it_was_stopped(folder, monkeypatch):
    part = cut_5()
    monkeypatch.setattr(apply_edits, '_CHUNK', Xyz(6, 6, 5))
    whole, written = joined_volume.write_block, []

    def stop_after_seven(*arguments):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(arguments[-2])
        whole(*arguments)

    monkeypatch.setattr(joined_volume, 'write_block', stop_after_seven)
    with pytest.raises(KeyboardInterrupt):
        apply('--output_volume', 'n5://out')
    with pytest.raises(UserError, match='is not complete'):
        apply_edits.main(
            ['--labels', 'n5://out', '--edits', 'edits.jsonl', '--equivalences', 'e.csv']
        )
    monkeypatch.setattr(joined_volume, 'write_block', lambda *a: written.append(a[-2]) or whole(*a))
    apply('--output_volume', 'n5://out')
    assert len(written) == len(set(written)) > 8
    assert ids_at(read('n5://out')[0]) == [3, 3, 3, 9, 5, part]


@pytest.mark.slow
def test_in_several_processes(folder):
    part = cut_5()
    apply('--output_volume', 'zarr3://out', '--workers', '2')
    assert ids_at(read('zarr3://out')[0]) == [3, 3, 3, 9, 5, part]


def test_only_the_equivalences(folder, caplog):
    add(split_of([3, BIG], [7]), merge(9, 5))
    apply('--equivalences', 'e.csv')
    rows = (folder / 'e.csv').read_text().split()
    assert rows == ['id,joined_id', '3,3', '5,5', '9,5', f'{BIG},3']
    assert not (folder / 'edits.jsonl.applied').exists()
    # The table can be proofread further.
    assert ProofreadVolume('volume.h5:labels', 'e.csv').table.neighbours()[9] == {5}
    assert 'cannot tell' not in caplog.text
    cut_5()
    apply('--equivalences', 'e.csv')
    assert 'e.csv cannot tell where 1 segments were cut' in caplog.text


def test_done_objects_become_labels(folder):
    part = cut_5()
    add(split_of([3, BIG], [7]), done(BIG), done(part), done(9), merge(9, 7))
    apply(
        '--done_labels', 'd.h5:labels', '--done_weights', 'd.h5:weights', '--around_done', '3,2,1'
    )
    labels, _ = read('d.h5:labels')
    assert ids_at(labels) == [3, 3, NOT_LABELLED, NOT_LABELLED, NOT_LABELLED, part]
    assert labels[0, 0, 0] == NOT_LABELLED
    weights, _ = read('d.h5:weights')
    near = weights.astype(bool)
    assert near[labels != NOT_LABELLED].all()
    assert near[3, 10, 10]
    assert near[8, 17, 10]
    assert not near[2, 10, 10]
    assert not near[8, 18, 10]
    assert set(np.unique(weights).tolist()) == {0, 1}


def test_labels_that_training_takes(folder):
    """Examples begin in objects that are done only, and what is far from these has no weight."""
    add(split_of([3, BIG], [7]), done(3))
    apply(
        '--done_labels', 'd.h5:labels', '--done_weights', 'd.h5:weights', '--around_done', '4,4,4'
    )
    argv = '--input_volume d.h5:labels --output_volume p.h5:af --thresholds 0.2,0.5,0.9'
    partitions.main([*argv.split(), '--lom_radius', '3,3,3', '--min_size', '10', '--quiet'])
    argv = '--partition_volumes v:p.h5:af --coordinate_output c.tfrecord --margin 4,4,4 --seed 1'
    coordinates.main([*argv.split(), '--quiet'])
    config = DataConfig(
        train_coords='c.tfrecord',
        data_volumes={'v': 'volume.h5:raw'},
        label_volumes={'v': 'd.h5:labels'},
        loss_weight_volumes={'v': 'd.h5:weights'},
        permutable_axes=(),
        reflectable_axes=(),
        image_mean=0.0,
        image_stddev=1.0,
    )
    base, _ = read('volume.h5:labels')
    near, _ = read('d.h5:weights')
    seen, others = set(), 0
    with ExampleSource(config, Zyx(9, 9, 9), 0, 4) as examples:
        for example in itertools.islice(examples, 60):
            x, y, z = example.center
            patch = base[z - 4 : z + 5, y - 4 : y + 5, x - 4 : x + 5]
            seen.add(int(base[z, y, x]))
            np.testing.assert_array_equal(example.labels > 0.5, np.isin(patch, [3, BIG]))
            around = near[z - 4 : z + 5, y - 4 : y + 5, x - 4 : x + 5]
            np.testing.assert_array_equal(example.weights, around)
            others += np.count_nonzero(around & ~np.isin(patch, [3, BIG]))
    # What surrounds the object counts as what it is: not the object.
    assert others > 1000
    assert seen == {3, BIG}


def test_pairs_that_were_judged(folder):
    add(
        split_of([3, BIG], [7]),
        merge(9, 5),
        decision('wrong', 7, 9),
        decision('skip', 3, BIG),
        merge(5, 2**62 + 1),
    )
    apply('--examples', 'x.csv')
    with open('x.csv', newline='') as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    # 7 and 9 were apart when that was judged wrong, and nothing put it right.
    assert rows == [
        ('3', '7', '10', '20', '8', '0', 'split', ''),
        ('5', '9', '1', '2', '3', '1', 'merge', ''),
        ('5', str(2**62 + 1), '1', '2', '3', '1', 'merge', ''),  # no part, if large
        ('7', '9', '1', '2', '3', '1', 'decision', ''),
    ]


def test_a_merge_says_so_of_all_pairs_between_two_objects(folder):
    (folder / 'merges.csv').write_text(MERGES + f'9,{BIG},4,30,33,8,0,0.1\n5,7,1,9,9,9,0,0.1\n')
    add(merge(3, 9))  # pointed at where agglomeration saw no pair
    cut_5()
    add(merge(7, 5))
    apply('--examples', 'x.csv')
    with open('x.csv', newline='') as file:
        found = {(int(row['id_a']), int(row['id_b'])): row['label'] for row in csv.DictReader(file)}
    # 5 was cut, so that nothing is known about it as a whole.
    assert found == {(7, 9): '1', (9, BIG): '1'}


def judged():
    apply('--examples', 'x.csv')
    with open('x.csv', newline='') as file:
        return {(int(row['id_a']), int(row['id_b'])): row['label'] for row in csv.DictReader(file)}


def test_pairs_that_were_merged_and_then_split_are_not_one_object(folder):
    add(merge(9, 5))
    assert judged() == {(5, 9): '1'}
    add(split_of([9], [5]))
    assert judged() == {(5, 9): '0'}
    add(merge(5, 7), merge(7, 9))  # one again, by others
    assert judged() == {(5, 7): '1', (5, 9): '1', (7, 9): '1'}


def test_an_answer_without_what_it_put_right(folder):
    """As a session leaves it that was killed while it took an answer back."""
    [joined] = add(merge(7, 9))
    [answered] = add(Decision(Item('pair', (7, 9), Xyz(1, 2, 3)), 'wrong', 1.0, joined))
    assert judged() == {(7, 9): '1'}
    add(Undo(joined))
    # It was wrong that they were apart, as they are again.
    assert judged() == {(7, 9): '1'}
    add(Undo(answered))
    assert judged() == {}


def test_a_note_about_what_was_cut_names_the_part(folder):
    at = Xyz(50, 24, 28)
    add(Note(Place(5, at), 'a spine'), Note(Place(5, Xyz(20, 24, 28)), 'its neck'))
    part = cut_5()
    apply('--notes', 'notes.csv', '--output_volume', 'out.h5:labels')
    with open('notes.csv', newline='') as file:
        rows = [(row['segment'], row['object']) for row in csv.DictReader(file)]
    assert rows == [(str(part), str(part)), ('5', '5')]
    with open_volume('out.h5:labels') as volume:
        assert volume.read(Box(at, Xyz(1, 1, 1))).item() == part


def test_notes_are_a_table_of_the_last_texts(folder):
    places = [Place(7, Xyz(4, 20, 8)), Place(BIG, Xyz(40, 8, 8)), Place(9, Xyz(4, 33, 8))]
    texts = [
        (0, 'look again'),
        (1, 'a spine,\n"or" not'),
        (2, 'nothing'),
        (0, 'ends: où?'),
        (2, ''),
    ]
    add(*(Note(places[i], text) for i, text in texts))
    apply('--notes', 'notes.csv')
    with open('notes.csv', newline='', encoding='utf-8') as file:
        assert list(csv.reader(file)) == [
            ['x', 'y', 'z', 'segment', 'object', 'text'],
            ['40', '8', '8', str(BIG), '3', 'a spine,\n"or" not'],
            ['4', '20', '8', '7', '3', 'ends: où?'],
        ]


def test_two_journals(folder, capsys):
    for path, whats in (('a.jsonl', [merge(9, 5)]), ('b.jsonl', [split_of([3, BIG], [7])])):
        add(*whats, path=path)
    part = cut_5('b.jsonl')
    call = (*VOLUME, '--first', 'a.jsonl', '--second', 'b.jsonl', '--output')
    merge_edits.main([*call, 'c.jsonl'])
    assert 'c.jsonl has 3 edits' in capsys.readouterr().out
    apply('--output_volume', 'c.h5:labels', edits='c.jsonl')
    assert ids_at(read('c.h5:labels')[0]) == [3, 3, 7, 5, 5, part]
    with pytest.raises(UserError, match=r'c\.jsonl exists'):
        merge_edits.main([*call, 'c.jsonl'])
    add(merge(7, 3), path='a.jsonl')
    with pytest.raises(UserError, match='contradict each other in 1 edits'):
        merge_edits.main([*call, 'd.jsonl'])
    assert 'b.jsonl: ' in (shown := capsys.readouterr().out)
    assert 'one has split 3 and 7, the other has merged them' in shown
    merge_edits.main([*call, 'e.jsonl', '--prefer', 'second'])
    apply('--equivalences', 'e.csv', edits='e.jsonl')
    assert '7,' not in (folder / 'e.csv').read_text()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), 'nothing is asked for'),
        (('--done_labels', 'x.h5:x'), 'no object is marked as done'),
        (('--output_volume', 'volume.h5:raw'), 'does not belong to this run'),
        (('--done_weights', 'x.h5:x', '--around_done=-1,2,3'), r'--around_done is x,y,z -1,2,3'),
        (('--output_volume', 'x.h5'), 'path:dataset'),
    ],
)
def test_what_cannot_be_written(folder, arguments, words):
    add(merge(9, 5))
    with pytest.raises(UserError, match=words):
        apply(*arguments)


def move(offset_zyx):
    """Image and segmentation begin at another voxel, and say so."""
    size = np.array((30.0, 9.0, 8.0))
    with h5py.File('volume.h5', 'a') as file:
        for name in ('labels', 'raw'):
            file[name].attrs.update(resolution=size, offset=size * offset_zyx)


def test_what_is_refused_is_refused_before_anything_is_written(folder):
    move((5, 4, 3))
    add(merge(9, 5), done(9))
    tables = ('--equivalences', 'e.csv', '--examples', 'x.csv', '--notes', 'n.csv')
    before = sorted(path.name for path in folder.iterdir())
    for flags in (
        ('--done_labels', 'd.h5:labels'),
        ('--done_weights', 'd.h5:w', '--around_done=-1,2,3'),
    ):
        with pytest.raises(
            UserError, match=r'begins at 0, and the segmentation at|--around_done is'
        ):
            apply(*tables, '--output_volume', 'c.h5:labels', *flags)
        assert sorted(path.name for path in folder.iterdir()) == before


def test_labels_of_what_is_done_lie_on_an_image_with_an_offset(folder):
    move((5, 4, 3))
    add(merge(9, 5), done(9))
    apply('--done_labels', 'precomputed://d')
    with open_volume('precomputed://d') as labels, open_volume('volume.h5:raw') as image:
        check_place(labels, image)
        assert labels.box == Box(Xyz(3, 4, 5), Xyz(*SHAPE[::-1]))


def test_another_segmentation(folder):
    add(merge(9, 5))
    (folder / 'merges.csv').write_text(MERGES.replace('7,9,1,30,33,8,0', '7,9,1,30,33,8,1'))
    with pytest.raises(UserError, match='begun with another --merges table'):
        apply('--equivalences', 'e.csv')
    with h5py.File('volume.h5', 'a') as file:
        file['labels'].attrs['ffn_made_from'] = 'another run'
    with pytest.raises(UserError, match='its ids mean nothing there'):
        apply('--equivalences', 'e.csv')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a,b\n1,2\n', r"has the columns 'a,b'; expected merges\.csv or equivalences\.csv"),
        ('id,joined_id\n1,x\n', 'line 2'),
        ('id,joined_id\n1\n', 'line 2: it has another number of columns'),
        (MERGES.replace('0.9', '1.9'), 'iou is 1.9'),
        (MERGES.replace(str(BIG), str(2**64)), 'is no id'),
    ],
)
def test_tables_that_are_none(folder, text, words):
    add(merge(9, 5))
    (folder / 'merges.csv').write_text(text)
    with pytest.raises(UserError, match=words):
        apply('--equivalences', 'e.csv')
