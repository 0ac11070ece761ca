"""What the bar of an inference run says."""

import io
import re
import sys
import threading

import h5py
import numpy as np
import pytest
from tqdm import tqdm

from ffn.inference import box_run, run_progress
from ffn.inference.core.checkpoint import Checkpointer, restore_checkpoint
from ffn.inference.request import read_request
from ffn.inference.run_progress import RunProgress
from ffn.inference.runner import Runner
from ffn.inference.seeds.policy import SeedPolicy
from ffn.utils.geometry import Box
from ffn.utils.progress import progress
from tests.inference.oracle import (
    REQUEST,
    OracleNetwork,
    batched,
    oracle_canvas,
    stand_in,
    two_blocks,
)

SEEDS = [(9, 12, 7), (10, 11, 22), (9, 12, 8)]


class Points(SeedPolicy):
    """One seed in each of the two blocks, and one that is taken."""

    def points(self):
        return np.array(SEEDS)


def new_canvas(shape_zyx=(20, 24, 30), **options):
    canvas = oracle_canvas(two_blocks(shape_zyx), **options)
    canvas.seed_policy = Points(canvas.view)
    return canvas


@pytest.fixture
def shown(monkeypatch):
    """What an enabled bar, drawn at every step, has written so far."""
    file = io.StringIO()

    def enabled(*, quiet, **kwargs):
        return tqdm(file=file, ncols=150, mininterval=0, disable=quiet, **kwargs)

    monkeypatch.setattr(run_progress, 'progress', enabled)
    monkeypatch.setattr(run_progress, 'REFRESH_S', 0)
    return lambda: [line for line in re.split(r'[\r\n]+', file.getvalue()) if line.strip()]


def filled(line: str) -> float:
    return float(re.search(r'([\d.]+)% filled', line)[1])


def steps_of_this_one(lines) -> list[int]:
    return [int(m[1]) for line in lines if (m := re.search(r'step (\d+) of this one', line))]


def test_one_box(shown):
    canvas = new_canvas()
    with RunProgress(1) as bar, bar.canvas(canvas):
        canvas.segment_all(canvas.seed_policy)
    lines = shown()
    assert all(line.startswith('seeds:') for line in lines)
    # Every step of each of the objects, one after the other.
    first, second = (canvas.origins[i].iters for i in (1, 2))
    assert steps_of_this_one(lines) == [*range(1, first + 1), *range(1, second + 1)]
    while_second = next(line for line in lines if '1 objects' in line and 'step 5 of' in line)
    half = np.mean(canvas.segmentation == 1)
    assert filled(while_second) == pytest.approx(100 * half, abs=0.06)
    assert '2/3' in while_second
    last = lines[-1]
    assert '2 objects' in last
    assert filled(last) == pytest.approx(100 * np.mean(canvas.segmentation > 0), abs=0.06)
    assert '3/3' in last
    assert 'of this one' not in last
    assert 'boxes' not in last
    assert float(re.search(r'([\d.]+) steps/s', last)[1]) > 0


def test_steps_per_second(shown, monkeypatch):
    now = 100.0
    monkeypatch.setattr(run_progress.time, 'monotonic', lambda: now)
    canvas = new_canvas()
    with RunProgress(1) as bar, bar.canvas(canvas):
        now = 104.0
        canvas.segment_all(canvas.seed_policy)
        assert f'{canvas.counters["predict-calls"] / 4:.1f} steps/s' in bar.text()


def test_several_boxes(shown):
    """Seeds of boxes that have not begun are guessed; how many boxes are done is said."""
    first, second = new_canvas(), new_canvas((16, 20, 28), min_segment_size=1)
    with RunProgress(3) as bar:
        with bar.canvas(first):
            first.segment_all(first.seed_policy)
            begun = len(shown())
            assert '0/3 boxes' in shown()[-1]
        assert '1/3 boxes' in shown()[-1]
        assert '3/9' in shown()[-1]
        with bar.canvas(second):
            second.segment_all(second.seed_policy)
        assert '2/3 boxes' in bar.text()
    assert steps_of_this_one(shown()) == []
    assert all('boxes' in line for line in shown()[begun:])
    last = shown()[-1]
    assert f'{len(first.origins) + len(second.origins)} objects' in last
    voxels = sum(canvas.segmented_voxels() for canvas in (first, second))
    sizes = sum(canvas.segmentation.size for canvas in (first, second))
    assert filled(last) == pytest.approx(100 * voxels / sizes, abs=0.06)


def test_boxes_that_are_done_are_not_looked_at_again(shown, monkeypatch):
    looked_at, counts = [], run_progress._Shown.counts
    monkeypatch.setattr(
        run_progress._Shown, 'counts', lambda one: looked_at.append(one) or counts(one)
    )
    with RunProgress(40) as bar:
        for _ in range(40):
            with bar.canvas(new_canvas()):
                pass
        assert len(looked_at) == 40
        bar.text()
        assert len(looked_at) == 40
    assert '40/40 boxes' in shown()[-1]


def test_boxes_at_the_same_time(shown):
    canvases = [new_canvas(), new_canvas((16, 20, 28))]

    def one(canvas):
        with bar.canvas(canvas):
            canvas.segment_all(canvas.seed_policy)

    with RunProgress(2) as bar:
        threads = [threading.Thread(target=one, args=(canvas,)) for canvas in canvases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert '2/2 boxes' in shown()[-1]
    assert '6/6' in shown()[-1]


def test_what_earlier_runs_did_counts_as_done_but_not_for_the_rate(shown, tmp_path, monkeypatch):
    def fifth_of_second(canvas):
        return 1 in canvas.origins and canvas.growing and canvas.growing.iters == 5

    path, canvas = tmp_path / 'seg.cpoint', new_canvas()
    save = Checkpointer(path, 1e-9, threading.Event())
    canvas.observers.append(lambda canvas: save(canvas) if fifth_of_second(canvas) else None)
    canvas.segment_all(canvas.seed_policy)
    resumed = new_canvas()
    restore_checkpoint(resumed, path)
    before = resumed.counters['predict-calls']
    assert before > 0
    now = 50.0
    monkeypatch.setattr(run_progress.time, 'monotonic', lambda: now)
    with RunProgress(1) as bar, bar.canvas(resumed):
        assert '0.0 steps/s' in bar.text()
        assert f'{len(resumed.origins)} objects' in bar.text()
        now = 51.0
        resumed.segment_all(resumed.seed_policy)
        made = resumed.counters['predict-calls'] - before
        assert f'{made:.1f} steps/s' in bar.text()


def test_other_observers_stay(shown):
    canvas, calls = new_canvas(), []
    canvas.observers.append(calls.append)
    with RunProgress(1) as bar:
        with bar.canvas(canvas):
            assert len(canvas.observers) == 2
            canvas.segment_all(canvas.seed_policy)
        assert canvas.observers == [calls.append]
        assert len(calls) == canvas.counters['predict-calls'] + len(SEEDS)
        with pytest.raises(RuntimeError, match='device lost'), bar.canvas(canvas):
            raise RuntimeError('device lost')
        assert canvas.observers == [calls.append]


def test_boxes_that_need_no_steps_are_done_as_well(shown, tmp_path, monkeypatch):
    """One exists, one is masked; otherwise the bar would promise two boxes more to the end."""
    predict = batched(OracleNetwork())
    monkeypatch.setitem(sys.modules, 'ffn.models.predictor', stand_in(predict))
    with h5py.File(tmp_path / 'volume.h5', 'w') as file:
        file['raw'] = two_blocks().astype(np.uint8)
    masks = 'masks { coordinate_expression { expression: "z >= 7" } }'
    boxes = [Box.from_zyx(corner, (6, 20, 28)) for corner in ((0, 0, 0), (0, 1, 1), (8, 0, 0))]
    with Runner() as runner:
        runner.start(read_request(REQUEST.format(folder=tmp_path) + masks))
        box_run.segment_boxes(runner, boxes[:1])
        before = len(shown())
        reports = box_run.segment_boxes(runner, boxes)
    assert [report.status for report in reports] == ['exists', 'segmented', 'masked']
    last = shown()[before:][-1]
    assert '3/3 boxes' in last
    seeds = reports[1].seeds
    assert f' {seeds}/{seeds} ' in last


@pytest.mark.parametrize('quiet', [True, False])
def test_a_bar_that_nobody_sees(quiet, monkeypatch, capfd):
    """Quiet, or where stderr is no terminal."""
    monkeypatch.setattr(run_progress, 'progress', progress)
    monkeypatch.setattr('sys.stderr.isatty', lambda: quiet, raising=False)
    canvas = new_canvas()
    with RunProgress(1, quiet) as bar:
        with bar.canvas(canvas):
            canvas.segment_all(canvas.seed_policy)
        assert '2 objects' in bar.text()
    assert len(canvas.origins) == 2
    assert capfd.readouterr().err == ''
