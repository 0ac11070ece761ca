"""Seeding in a browser: keys over panels, and what is drawn."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('neuroglancer')
from ffn.proofreading.seeding import seeding_layers
from ffn.proofreading.seeding.seeding_actions import SeedingActions
from ffn.proofreading.viewing.things import open_layer
from ffn.proofreading.viewing.viewer import Viewer
from tests.inference import flood
from tests.proofreading.seeded import BOX, STARTS, session

LATENCY_S = 0.1
START = STARTS[0]


class Gate:
    """Called in each step; lets only so many begin."""

    limit, made, is_over = 0, 0, False

    def __call__(self):
        self.made += 1
        while self.made > self.limit and not self.is_over:
            time.sleep(0.005)


@contextlib.contextmanager
def viewing(browser, folder, wait=lambda: None):
    """A session in a browser; its planes meet in body 1."""
    with session(folder, wait=wait) as seeding, Viewer() as viewer:
        viewer.add(open_layer(f'{folder}/volume.h5:raw', 'image', 'image'))
        viewer.show(BOX)
        viewer.look_at(START)
        with SeedingActions(viewer, seeding), browser.open(viewer) as view:
            yield seeding, view


def orange(view):
    """How many pixels of the panels xy, xz, 3-d and yz have the colour of the object, once all of it is there."""
    return orange_of(view.picture())


def orange_of(picture):
    """The same of a picture."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    of_object = (red > green + 15) & (green > blue + 10)
    return [
        np.count_nonzero(part)
        for half in np.array_split(of_object, 2)
        for part in np.array_split(half, 2, axis=1)
    ]


def text(view):
    return view.page.inner_text('body')


def test_an_object_grows_under_the_mouse(browser, tmp_path):
    gate = Gate()
    with (
        viewing(browser, tmp_path, gate) as (seeding, view),
        contextlib.ExitStack() as at_the_end,
    ):
        at_the_end.callback(setattr, gate, 'is_over', True)
        assert max(orange(view)) == 0
        view.press('KeyF', START)
        view.wait_until(lambda: seeding.look().state == 'growing')
        assert seeding.look().start == START
        areas = []
        for number in (2, 15):
            gate.limit = number
            view.wait_until(lambda n=number: f'growing: {n} steps' in text(view))
            least = 1.3 * np.array(areas[-1]) if areas else np.full(4, 20)
            view.wait_until(lambda n=least: areas.append(orange(view)) or np.all(areas[-1] > n))
            view.save(f'seeding-{number}.png')
        view.press('KeyX', START)
        view.wait_until(lambda: seeding.look().state == 'stopping')
        gate.limit += 1
        view.wait_until(lambda: seeding.look().state == 'stopped')
        gate.limit = 1000
        view.press('KeyG', START)
        view.wait_until(lambda: seeding.look().state == 'complete')
        view.press('KeyA', START)
        view.wait_until(lambda: 'accepted as 1' in text(view))
        assert seeding.look().accepted == (1,)
        view.wait_until(lambda: max(orange(view)) == 0)
        view.save('seeding-accepted.png')


@pytest.mark.slow
def test_the_object_stays_while_its_next_state_is_fetched(browser, tmp_path, monkeypatch):
    gate, may_read, asked = Gate(), threading.Event(), threading.Event()
    gate.limit = 15
    may_read.set()
    with (
        viewing(browser, tmp_path, gate) as (seeding, view),
        contextlib.ExitStack() as at_the_end,
    ):
        at_the_end.callback(may_read.set)
        at_the_end.callback(setattr, gate, 'is_over', True)
        read = seeding.read_object

        def read_later(part):
            if not may_read.is_set():
                asked.set()
            may_read.wait()
            return read(part)

        monkeypatch.setattr(seeding, 'read_object', read_later)
        view.press('KeyF', START)
        view.wait_until(lambda: 'growing: 15 steps' in text(view) and min(orange(view)) > 20)
        view.pause(3)  # both have it
        before = orange_of(view.shown_now())
        may_read.clear()
        gate.limit = 20
        view.wait_until(asked.is_set)
        view.pause(1)  # the page has dropped what it had of one
        now = orange_of(view.shown_now())
        assert np.all(np.array(now) > 0.7 * np.array(before))
        may_read.set()
        gate.limit = 1000
        view.wait_until(lambda: seeding.look().state == 'complete')
        view.press('KeyR', START)
        view.wait_until(lambda: max(orange(view)) == 0)


@pytest.mark.slow
def test_keys(browser, tmp_path):
    with viewing(browser, tmp_path) as (seeding, view):
        view.press('KeyA', START)
        view.wait_until(lambda: 'there is no object; start one first' in text(view))
        view.press('KeyF', STARTS[0], 'xz')
        view.wait_until(lambda: seeding.look().state == 'complete')
        before = seeding.look()
        for key, name, change in (
            ('BracketLeft', 'move_threshold', -1),
            ('BracketRight', 'move_threshold', 1),
            ('Shift+BracketLeft', 'segment_threshold', -1),
            ('Shift+BracketRight', 'segment_threshold', 1),
        ):
            value = getattr(seeding.look(), name)
            view.press(key, START)
            view.wait_until(
                lambda n=name, v=value, c=change: c * (getattr(seeding.look(), n) - v) > 0
            )
        assert seeding.look().move_threshold == pytest.approx(before.move_threshold)
        assert seeding.look().segment_threshold == pytest.approx(before.segment_threshold)
        version = seeding.look().version
        view.press('KeyT', START)
        view.wait_until(lambda: seeding.look().version > version + before.steps)
        view.wait_until(lambda: seeding.look().state == 'complete')
        view.press('KeyR', START, 'yz')
        view.wait_until(lambda: seeding.look().state == 'empty')
        view.press('KeyF', START, 'yz')
        view.wait_until(lambda: seeding.look().state == 'complete')
        view.press('KeyA', START)
        view.wait_until(lambda: seeding.look().accepted == (1,))
        press_until(view, 'KeyF', ['which object 1 has already filled'])
        view.press('KeyZ', START)
        view.wait_until(lambda: 'object 1 is taken back' in text(view))
        assert seeding.look().accepted == ()
        assert 'z: take back the last one' in text(view)


def test_a_page_that_is_opened_late_is_drawn_soon(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(seeding_layers.time, 'monotonic', lambda: now[0])
    pace = seeding_layers._Pace()
    assert pace.ask()
    now[0] += 90
    assert not pace.ask()  # nobody has it
    with pace.fetching():
        now[0] += 9
        assert not pace.ask()  # somebody is still getting it
    assert not pace.ask()  # somebody has just got it
    now[0] += 2.1
    assert pace.ask()
    now[0] += 0.5
    with pace.fetching():
        pass
    now[0] += 0.4
    assert not pace.ask()  # as long as it took
    now[0] += 0.2
    assert pace.ask()


def test_a_key_is_answered_at_once_while_a_step_is_computed(tmp_path):
    """The handlers, as the web server's thread calls them."""
    computing = threading.Event()

    def slow():
        computing.set()
        time.sleep(0.4)

    event = {'mousePosition': [n + 0.5 for n in START]}

    with session(tmp_path, wait=slow) as seeding, Viewer() as viewer:
        viewer.add(open_layer(f'{tmp_path}/volume.h5:raw', 'image', 'image'))
        with SeedingActions(viewer, seeding) as actions:
            bound = viewer.neuroglancer.actions
            for key, state in (
                ('keyf', 'growing'),
                ('keyx', 'stopping'),
                ('keyg', 'growing'),
                ('bracketleft', 'growing'),
                ('keya', 'empty'),
                ('keyz', 'empty'),
                ('keyf', 'growing'),
                ('keyr', 'empty'),
            ):
                if seeding.look().state == 'growing':
                    computing.clear()
                    assert computing.wait(30)
                begin = time.perf_counter()
                bound.invoke(f'ffn-{key}', event)
                assert time.perf_counter() - begin < LATENCY_S / 2, key
                actions._posted.submit(lambda: None).result(30)  # what was posted before is done
                assert time.perf_counter() - begin < LATENCY_S, key
                assert seeding.look().state == state
                assert not actions._note


@contextlib.contextmanager
def started(command):
    """A command that serves a viewer, and its URL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith('open http://127.0.0.1:'), line
            yield process, line.split()[1]
        finally:
            process.kill()


@contextlib.contextmanager
def elsewhere(browser, url):
    """A viewer in another process."""
    with browser.open(url) as view:
        view.wait_until(lambda: 'f: flood' in text(view))
        yield view


def press_until(view, key, words):
    """Presses a key, the mouse moving in the middle of the first panel, until it has had an effect.

    Before the first picture, and when a layer has been replaced, the viewer does not know what is below the mouse.
    """
    box = view.page.locator('.neuroglancer-rendered-data-panel').nth(0).bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2

    def condition():
        if any(word in text(view) for word in words):
            return True
        view.page.mouse.move(x - 3, y + 3)
        view.page.mouse.move(x, y)
        view.pause(0.5)
        view.page.keyboard.press(key)
        view.pause(0.5)
        return False

    view.wait_until(condition)


def kill_and_reload(browser, command):
    """Seeds, accepts, kills the command, starts it again, and ends it as a user does."""
    with started(command) as (process, url), elsewhere(browser, url) as view:
        press_until(view, 'KeyF', ['growing:', 'complete'])
        view.wait_until(lambda: 'complete' in text(view))
        press_until(view, 'KeyA', ['accepted as 1'])
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    with started(command) as (process, url), elsewhere(browser, url) as view:
        view.wait_until(lambda: '1 accepted' in text(view))
        view.page.screenshot(path=view.folder / 'seeding-reloaded.png')
        press_until(view, 'KeyZ', ['object 1 is taken back'])
        press_until(view, 'KeyF', ['growing:', 'complete'])
        view.wait_until(lambda: 'complete' in text(view))
        press_until(view, 'KeyA', ['accepted as 1'])
        process.send_signal(signal.SIGINT)
        last = process.stdout.read()
        assert process.wait(60) == 0
    return last


@pytest.mark.slow
def test_a_kill_and_a_reload(browser, tmp_path):
    command = [sys.executable, '-m', 'tests.proofreading.seeded', str(tmp_path), 'serve']
    assert '1 accepted' in kill_and_reload(browser, command)
    assert list(tmp_path.glob('results/*/*/seg-*.npz'))


@pytest.mark.slow
def test_the_command(browser, flood_folder):
    """With TensorFlow."""
    command = [sys.executable, '-m', 'ffn', 'seed']
    command += ['--inference_request', flood.write_request(flood_folder)]
    command += ['--bounding_box', 'start { x: 4 y: 2 z: 0 } size { x: 30 y: 24 z: 19 }']
    command += [
        '--output',
        str(flood_folder / 'seeded'),
        '--labels',
        f'{flood_folder}/volume.h5:raw',
    ]
    last = kill_and_reload(browser, command)
    assert last == f'accepted objects: 1, in {flood_folder}/seeded\n'
    assert list((flood_folder / 'seeded').glob('*/*/seg-4_2_0.npz'))
