"""The journal on disk: what is added stays, whatever becomes of its writer; what is damaged is refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ffn.proofreading.editing.edits import Cut, Edit, part_id
from ffn.proofreading.editing.journal import (
    Base,
    Journal,
    open_journal,
    read_journal,
    write_journal,
)
from ffn.utils.errors import UserError
from tests.conftest import ROOT
from tests.full_disk import files_of_at_most
from tests.proofreading.samples import decision, done, edit, merge, note, number, split, undo

BASE = Base('labels.h5:labels', 'stamp', 'table')
BIG = 2**64 - 2
WHATS = (
    merge(1, BIG),
    split([1, 5], [BIG, part_id(number(1), 0)], [Cut(5, part_id(number(1), 0), 'abc123.npz')]),
    done(7),
    note(7, 'a “quoted” remark\nof two lines'),
    decision('right', 1, BIG),
    undo(2),
)


def test_what_is_written_is_read(tmp_path):
    edits = tuple(edit(n, what, who='Ada') for n, what in enumerate(WHATS))
    write_journal(tmp_path / 'j.jsonl', Journal(BASE, edits))
    assert read_journal(tmp_path / 'j.jsonl') == Journal(BASE, edits)
    lines = (tmp_path / 'j.jsonl').read_text().splitlines()
    assert [json.loads(line)['n'] for line in lines] == list(range(len(WHATS) + 1))


def test_edits_are_added_one_by_one(tmp_path):
    path = tmp_path / 'new' / 'j.jsonl'
    for what in WHATS[:3]:
        with open_journal(path, BASE, 'Bob') as journal:
            journal.add(what)
    found = read_journal(path).edits
    assert tuple(one.what for one in found) == WHATS[:3]
    assert {one.who for one in found} == {'Bob'}
    assert found[0].time <= found[2].time <= time.time() + 1
    assert not list(path.parent.glob('.*')), 'the lock is left behind'


@pytest.mark.parametrize('room', [0, 60])
def test_an_edit_for_which_the_disk_is_full_is_none(tmp_path, room):
    path = tmp_path / 'j.jsonl'
    with open_journal(path, BASE) as journal:
        journal.add(done(7))
        before = path.read_bytes()
        for what in (done(8), note(9, 'the longer, the later')):
            with files_of_at_most(len(before) + room), pytest.raises(OSError, match='large'):
                journal.add(what)
            assert path.read_bytes() == before
        assert journal.add(done(10)) == read_journal(path).edits[1]
        with files_of_at_most(path.stat().st_size + room), pytest.raises(OSError, match='large'):
            journal.add(done(11))
    assert [one.what for one in read_journal(path).edits] == [done(7), done(10)]


def test_what_a_failed_edit_has_left_is_removed_by_the_next_one(tmp_path):
    path = tmp_path / 'j.jsonl'
    with open_journal(path, BASE) as journal:
        journal.add(done(7))
        with path.open('ab') as file:  # as where the line could not be taken back either
            file.write(b'{"n": 2, "number": ')
        journal.add(done(8))
    assert [one.what for one in read_journal(path).edits] == [done(7), done(8)]


def test_one_writer_at_a_time(tmp_path):
    with (
        open_journal(tmp_path / 'j.jsonl', BASE),
        pytest.raises(UserError, match=r'another command writes to .*j\.jsonl'),
        open_journal(tmp_path / 'j.jsonl', BASE),
    ):
        pass


@pytest.mark.parametrize(
    ('base', 'words'),
    [
        (Base('labels.h5:labels', 'other', 'table'), 'its ids mean nothing there'),
        (
            Base('labels.h5:labels', 'stamp' * 9 + '1', 'table'),
            r'made from stamp\), and .* stampstampst…',
        ),
        (Base('labels.h5:labels', 'stamp', ''), 'another --merges table'),
    ],
)
def test_another_segmentation_is_refused(tmp_path, base, words):
    with open_journal(tmp_path / 'j.jsonl', BASE):
        pass
    with pytest.raises(UserError, match=words), open_journal(tmp_path / 'j.jsonl', base):
        pass
    with open_journal(tmp_path / 'j.jsonl', Base('moved.h5:labels', 'stamp', 'table')):
        pass


def test_a_torn_last_line_is_set_aside(tmp_path, caplog):
    path = tmp_path / 'j.jsonl'
    write_journal(path, Journal(BASE, tuple(edit(n, what) for n, what in enumerate(WHATS))))
    whole = path.read_bytes()
    start = whole[:-1].rfind(b'\n') + 1
    for end in (start + 1, start + 30, len(whole) - 1):
        path.write_bytes(whole[:end])
        caplog.clear()
        assert len(read_journal(path).edits) == len(WHATS) - 1
        assert path.read_bytes() == whole[:end], 'reading must change nothing'
        with open_journal(path, BASE) as journal:
            journal.add(done(9))
        assert [one.what for one in read_journal(path).edits] == [*WHATS[:-1], done(9)]
        assert 'as if its writer was killed' in caplog.text
    assert sorted(p.name for p in tmp_path.glob('*.torn*')) == [
        'j.jsonl.torn',
        'j.jsonl.torn2',
        'j.jsonl.torn3',
    ]
    assert (tmp_path / 'j.jsonl.torn').read_bytes() == whole[start : start + 1]


def damaged_lines(text):
    lines = text.splitlines()
    one = json.loads(lines[2])
    yield [*lines[:2], lines[2].replace('"time": 1.0', '"time": 9.0'), *lines[3:]], 'line 3 .*crc'
    yield [*lines[:2], *lines[3:]], r'line 3 .*numbered 3, and 2 is expected'
    yield [*lines[:3], lines[2], *lines[3:]], 'line 4 .*numbered 2'
    yield [*lines[:2], '', *lines[2:]], 'line 3 is damaged'
    yield [*lines[:2], '[]', *lines[3:]], 'line 3 is damaged'
    yield [*lines[:2], lines[2][:20], *lines[3:]], 'line 3 is damaged'
    yield [json.dumps({**one, 'n': 0}), *lines[1:]], 'line 1 is damaged'
    yield lines[1:], 'line 1 is damaged: it is numbered 1'


def test_damage_is_told_with_its_line(tmp_path):
    path = tmp_path / 'j.jsonl'
    write_journal(path, Journal(BASE, tuple(edit(n, what) for n, what in enumerate(WHATS))))
    for lines, words in damaged_lines(path.read_text()):
        (tmp_path / 'd.jsonl').write_text('\n'.join(lines) + '\n')
        with pytest.raises(UserError, match=words) as told:
            read_journal(tmp_path / 'd.jsonl')
        assert '\n' not in str(told.value)
    with pytest.raises(UserError, match='no such journal'):
        read_journal(tmp_path / 'none.jsonl')


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('a', {'id': 0, 'point': [1, 2, 3]}, '0 is no id'),
        ('a', {'id': 2**64 - 1, 'point': [1, 2, 3]}, 'no id'),
        ('a', {'id': True, 'point': [1, 2, 3]}, 'no id'),
        ('a', {'id': 1.0, 'point': [1, 2, 3]}, 'no id'),
        ('a', {'id': 1, 'point': [1, 2]}, 'no voxel'),
        ('a', {'id': 1}, 'does not have the keys id, point'),
        ('kind', 'marge', "kind is 'marge'; expected one of merge, split"),
        ('number', '12', 'no number of an edit'),
        ('time', -1, 'no time'),
        ('who', 3, 'no text'),
        ('more', 3, 'does not have the keys a, b'),
    ],
)
def test_every_value_is_checked(key, value, words):
    content = edit(1, merge(1, 2)).as_json()
    with pytest.raises(ValueError, match=words):
        Edit.from_json(json.loads(json.dumps({**content, key: value})))


def test_a_segment_in_both_parts_is_refused():
    content = json.loads(json.dumps(edit(1, split([1, 2], [3])).as_json()))
    content['parts'] = [[1, 2], [2]]
    with pytest.raises(ValueError, match='in both parts'):
        Edit.from_json(content)
    content['parts'], content['cuts'] = [[1], [2]], [{'of': 1, 'new': 2, 'mask': '../x.npz'}]
    with pytest.raises(ValueError, match='no file name'):
        Edit.from_json(content)


_WRITER = """
import sys
from ffn.proofreading.editing.journal import Base, open_journal
from tests.proofreading.samples import merge
with open_journal(sys.argv[1], Base('l', '', '')) as journal:
    first = len(journal.edits) + 1
    print('open', flush=True)
    for n in range(first, 10**9):
        journal.add(merge(n, n + 1))
        print(n, flush=True)
"""


def test_killed_writers_lose_nothing_that_was_told(tmp_path):
    """The edits that a killed process said were on disk are there, and the next process goes on."""
    path = tmp_path / 'j.jsonl'
    for delay in (0, 0.013, 0.031):
        writer = subprocess.Popen(
            [sys.executable, '-c', _WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == 'open\n'
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().splitlines()]
        writer.wait()
        writer.stdout.close()
        found = [one.what.a.id for one in read_journal(path).edits]
        assert found == list(range(1, len(found) + 1))
        assert not told or len(found) >= told[-1]
