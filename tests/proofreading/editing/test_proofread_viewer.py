"""Proofreading as a user sees it: keys over voxels, colours, and a process that is killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

pytest.importorskip('neuroglancer')
from ffn.cli import proofread
from ffn.proofreading.editing.journal import open_journal, read_journal
from ffn.proofreading.editing.proofread_actions import ProofreadActions
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.editing.queue_table import write_queue
from ffn.proofreading.viewing.agreement import agree
from ffn.proofreading.viewing.things import open_layer
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.errors import UserError
from tests.conftest import ROOT
from tests.proofreading.editing.test_proofreading import PLACES, QUEUE, volume

BIG = 2**63 + 11  # instead of 2
VOLUME = ('--labels', 'v.h5:labels', '--merges', 'merges.csv')
START = (10, 4, 20)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The volume of the tests of sessions, five times as large, in another place."""
    labels = volume().read(volume().box).repeat(4, 1).repeat(4, 2)
    labels[labels == 2] = BIG
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'], file['raw'] = labels, (labels > 0).astype(np.uint8) * 100
        for dataset in file.values():
            dataset.attrs['resolution'] = (20.0, 10.0, 10.0)
            dataset.attrs['offset'] = [s * v for s, v in zip(START[::-1], (20.0, 10.0, 10.0))]
    rows = f'1,{BIG},0,80,14,24,1,0.9\n{3},{BIG},1,130,28,24,0,0.5\n'
    (tmp_path / 'merges.csv').write_text(f'id_a,id_b,distance,x,y,z,accepted,iou\n{rows}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place(segment, x=None):
    at = PLACES[segment]
    return ((at.x if x is None else x) * 4 + 2 + START[0], at.y * 4 + 2 + START[1], at.z + START[2])


@contextlib.contextmanager
def proofreading(browser, size):
    """A session in a viewer in a browser: the session, the viewer, the view, and the journal."""
    proofread_volume = ProofreadVolume(VOLUME[1], VOLUME[3])
    with (
        proofread_volume.source.open() as opened,
        open_journal('j.jsonl', proofread_volume.base) as journal,
        Viewer() as viewer,
    ):
        session = Proofreading(opened.require_labels(), proofread_volume.table, journal)
        layers = [open_layer('v.h5:raw', 'image'), open_layer('v.h5:labels', 'labels')]
        image, labels = agree(layers, None)
        viewer.add(image)
        with ProofreadActions(viewer, session, labels), browser.open(viewer, size) as view:
            yield session, viewer, view, journal


def test_merge_split_and_undo(folder, browser):
    with proofreading(browser, (640, 480)) as (session, viewer, view, journal):

        def press(key, voxel, edits, said):
            view.pause(0.3)  # the page makes its panels anew when the state changes
            view.press(key, voxel)
            view.wait_until(lambda: len(journal.edits) == edits and said in status(viewer))

        def colours(name):
            """Which colours bodies 1, 2, 3 and the two sides of 4 have."""
            view.pause(0.3)
            picture = np.asarray(Image.open(view.save(f'proofread-{name}.png')).convert('RGB'))
            places = [place(1, 12), place(2, 28), place(3, 5), place(4, 12), place(4, 30)]
            at = [tuple(map(int, view.at(voxel))) for voxel in places]
            return [tuple(picture[y, x].tolist()) for x, y in at]

        one, two, *rest = colours('1-before')
        assert one == two
        assert len({one, *rest}) == 3
        press('KeyM', place(1), 0, 'merge with which object?')
        press('KeyM', place(4), 1, 'merged')
        assert session.objects.members(4) == {1, BIG, 4}
        one, two, three, left, right = colours('2-merged')
        assert one == two == left == right != three
        # 4 is cut, in the middle of it.
        press('Digit1', place(4, 8), 1, '1 and 0 points')
        press('Digit2', place(4, 30), 1, '1 and 1 points')
        press('KeyX', place(4), 2, 'split')
        part = journal.edits[1].what.parts[1]
        assert part == (journal.edits[1].what.cuts[0].new,)
        one, two, three, left, right = colours('3-split')
        assert one == two == left
        assert right not in (one, three)
        press('KeyD', place(4, 30), 3, 'done: 1 objects')
        assert session.objects.done_objects() == {part[0]: set(part)}
        for edits in (4, 5, 6):
            press('KeyU', place(4), edits, 'undone')
        one, two, three, left, right = colours('4-undone')
        assert one == two
        assert left == right
        assert len({one, three, left}) == 3


def test_the_text_of_a_note_is_written_in_the_viewer(folder, browser):
    with proofreading(browser, (1000, 640)) as (session, _, view, _):

        def texts():
            return [note.text for note in session.objects.notes.values()]

        def write(text):
            view.page.locator('textarea').fill(text)
            view.page.keyboard.press('Tab')
            view.wait_until(lambda: texts() == [text] * bool(text))

        view.press('KeyN', place(1))
        view.wait_until(lambda: texts() == ['look again'])
        view.page.wait_for_selector('textarea')
        view.page.locator('textarea').click()
        view.page.keyboard.type(' dn')  # which are keys, too
        view.page.keyboard.press('Tab')
        view.wait_until(lambda: 'dn' in ''.join(texts()))
        write('a merger, or a spine?')
        view.save('proofread-note.png')
        session.undo()
        assert 'dn' in texts()[0]
        session.redo()
        view.pause(0.3)
        write('')
        assert not session.objects.done
    edits = read_journal('j.jsonl').edits
    assert [edit.what.kind for edit in edits if edit.what.kind != 'undo'] == ['note'] * 4


def status(viewer):
    return viewer.neuroglancer.config_state.state.status_messages['proofreading']


def start(*arguments):
    """Starts the command; returns the process and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'ffn', 'proofread', *VOLUME, '--edits', 'j.jsonl', *arguments],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, re.fullmatch(r'open (http://\S+)\n', process.stdout.readline())[1]


def wait_for(page, text):
    page.wait_for_function(f'document.body.innerText.includes({text!r})', timeout=30_000)


@pytest.mark.slow
def test_a_killed_session_goes_on(folder, browser):
    pair = QUEUE[0]._replace(item=QUEUE[0].item.__class__('pair', (3, BIG), place(3)))
    write_queue('q.csv', [pair, QUEUE[1]])
    edits = []
    for shown in ('0 judged', '1 judged, 1 wrong'):
        process, address = start('--queue', 'q.csv', '--image', 'v.h5:raw', '--who', 'Ada')
        page = browser._browser.new_page()
        try:
            page.goto(address)
            page.wait_for_selector('.neuroglancer-rendered-data-panel')
            wait_for(page, shown)
            if not edits:
                page.locator('.neuroglancer-rendered-data-panel').first.hover()
                page.keyboard.press('KeyW')
                wait_for(page, '1 judged, 1 wrong')
        finally:
            page.close()
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        edits = read_journal('j.jsonl').edits
    merged, judged = edits
    assert {merged.what.a.id, merged.what.b.id} == {3, BIG}
    assert judged.what.edit == merged.number
    assert judged.who == 'Ada'


def test_a_journal_of_another_volume(folder):
    with open_journal('j.jsonl', ProofreadVolume('v.h5:raw').base):
        pass
    with pytest.raises(UserError, match='its ids mean nothing there'):
        proofread.main([*VOLUME, '--edits', 'j.jsonl'])
