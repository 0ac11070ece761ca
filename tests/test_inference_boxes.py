"""run_inference.py with several boxes: results, failures, the report, and precisions."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.inference import box_run, inference_pb2, report, storage
from ffn.models.precision import backend, describe_device
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from tests.calls import call_many, check_one_line, run_python
from tests.inference import flood
from tests.inference.results import check_same, whole_result
from tests.loaded import run_loaded

# Corner and size, x,y,z.
BOXES = [((0, 0, 0), (20, 26, 11)), ((21, 1, 7), (17, 25, 13)), ((3, 10, 5), (14, 13, 15))]


def box_text(corner, size) -> str:
    fields = ['{{ x: {} y: {} z: {} }}'.format(*numbers) for numbers in (corner, size)]
    return f'start {fields[0]} size {fields[1]}'


def boxes_text(boxes=tuple(BOXES)) -> str:
    return '\n'.join(f'box {{ {box_text(*box)} }}' for box in boxes)


def write_request(folder: Path, more: str = '', deltas: str = '[2, 2, 2]') -> str:
    """Adds to the flood network's request; returns its path."""
    path = Path(flood.write_request(folder))
    args = f'movement_policy_args: \'{{"deltas": {deltas}}}\'\n'
    path.write_text(path.read_text() + args + more)
    return str(path)


@pytest.fixture
def folder(flood_folder):
    write_request(flood_folder)
    return flood_folder


@pytest.fixture(scope='module')
def one_by_one(tmp_path_factory, flood_network):
    """Results of three runs of one box each, by corner x,y,z."""
    folder = tmp_path_factory.mktemp('one')
    flood.fill_folder(folder, flood_network)
    request = write_request(folder)
    for box in BOXES:
        box_run.segment(request, box_text=box_text(*box), quiet=True)
    return {corner: result(folder, corner) for corner, _ in BOXES}


def result(folder: Path, corner_xyz) -> dict:
    return whole_result(folder / 'results', corner_xyz[::-1])


def check_results(folder: Path, expected: dict) -> None:
    for corner, wanted in expected.items():
        check_same(result(folder, corner), wanted)
    assert len(list(folder.rglob('*.npz'))) == len(expected)
    assert not list(folder.rglob('*.cpoint'))


@pytest.mark.parametrize('batch_size', [1, 2, 4])
@pytest.mark.parametrize('at_a_time', [1, 2, 3])
def test_as_one_by_one(folder, one_by_one, at_a_time, batch_size):
    more = f'concurrent_requests: {at_a_time} batch_size: {batch_size}'
    box_run.segment(write_request(folder, more), boxes_text=boxes_text(), quiet=True)
    check_results(folder, one_by_one)


def script(repository: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(repository / 'run_inference.py'),
        '--inference_request=request.pbtxt',
        *arguments,
    ]


def read_report(folder: Path) -> dict:
    return json.loads((folder / 'report.json').read_text())


def check_total(told: dict) -> None:
    """The totals are sums over the boxes that were worked on."""
    total, boxes = told['total'], told['boxes']
    done = [box for box in boxes if box['counters']]
    assert all(box['status'] in ('segmented', 'masked', 'interrupted') for box in done)
    for name in ('filled_voxels', 'seeds', 'objects', 'steps', 'resumed_steps'):
        assert total[name] == sum(box[name] for box in done), name
    for why in ('weak', 'small', 'close'):
        assert total['rejected'][why] == sum(box['rejected'][why] for box in done), why
    assert total['stopped_at_limit'] == sum(len(box['stopped_at_limit']) for box in done)
    voxels = sum(int(np.prod(box['size_xyz'])) for box in done)
    assert total['voxels'] == voxels
    assert total['filled_fraction'] == pytest.approx(total['filled_voxels'] / max(voxels, 1))
    steps_ms = sum(box['step_ms'] * box['steps'] for box in done)
    assert total['step_ms'] == pytest.approx(steps_ms / max(total['steps'], 1))
    made = total['steps'] - total['resumed_steps']
    assert total['steps_per_second'] * total['seconds'] == pytest.approx(made)
    share = made / total['steps'] if total['steps'] else 1
    assert total['voxels_per_second'] * total['seconds'] == pytest.approx(share * voxels)
    statuses = [box['status'] for box in boxes]
    assert total['boxes'] == {status: statuses.count(status) for status in statuses}


def check_as_stored(folder: Path, box: dict) -> None:
    """What a segmented box's report says is what its result holds."""
    path = storage.subvolume_path(folder / 'results', box['corner_xyz'][::-1], 'npz')
    stored = read_npz(path, ['segmentation', 'origins', 'counters'], [storage.OriginInfo])
    counters = json.loads(stored['counters'].item())
    assert stored['segmentation'].shape == tuple(box['size_xyz'][::-1])
    assert box['objects'] == len(stored['origins']) > 0
    assert box['filled_voxels'] == np.count_nonzero(stored['segmentation'])
    assert box['counters'] == counters
    assert box['steps'] == counters['predict-calls'] > 0
    assert box['seeds'] == counters['seeds']
    for why, seeds in box['rejected'].items():
        assert seeds == counters.get(f'rejected-{why}', 0)
    assert box['step_ms'] == pytest.approx(counters['predict-time-ms'] / box['steps'])
    assert box['seconds'] == pytest.approx(counters['segment_all-time-ms'] / 1000)


def test_a_file_of_boxes_and_the_report(repository, folder, one_by_one, capsys):
    (folder / 'boxes.pbtxt').write_text('# three\n' + boxes_text())
    write_request(folder, 'concurrent_requests: 2 batch_size: 2')
    asked = '--bounding_boxes=boxes.pbtxt', '--report=report.json'
    done = run_loaded(folder, *script(repository, *asked)[1:])
    assert done.returncode == 0, done.stderr
    check_results(folder, one_by_one)
    told = read_report(folder)
    assert '3 boxes: 3 segmented' in done.stdout
    total = told['total']
    assert f'{total["seeds"]} seeds: {total["objects"]} objects kept' in done.stdout
    assert f'{total["filled_fraction"]:.1%} of {total["voxels"]} voxels filled' in done.stdout
    assert f'{total["steps"]} network steps' in done.stdout

    documented = re.findall(r'^ {2}(\w+):', inspect.getdoc(report.BoxReport), re.MULTILINE)
    assert len(documented) > 10
    for box, (corner, size) in zip(told['boxes'], BOXES, strict=True):
        assert list(box) == documented
        assert (tuple(box['corner_xyz']), tuple(box['size_xyz'])) == (corner, size)
        assert (box['status'], box['error'], box['resumed_steps']) == ('segmented', '', 0)
        assert box['stopped_at_limit'] == {}
        check_as_stored(folder, box)
    check_total(told)
    assert told['device'] == describe_device()
    assert told['backend'] == backend()
    assert told['precision'] == 'float32'
    assert (told['batch_size'], told['concurrent_requests']) == (2, 2)

    # Again: there is nothing to do. With a box more: only that is done.
    request = str(folder / 'request.pbtxt')
    before = {path: path.read_bytes() for path in (folder / 'results').rglob('*.*')}
    capsys.readouterr()
    box_run.segment(request, boxes_text=boxes_text(), report_path=str(folder / 'report.json'))
    assert capsys.readouterr().out.strip() == '3 boxes: 3 exists'
    told = read_report(folder)
    assert [box['status'] for box in told['boxes']] == ['exists'] * 3
    check_total(told)
    assert total['steps'] > told['total']['steps'] == 0
    more = [BOXES[0], ((20, 9, 5), (18, 17, 15)), *BOXES[1:]]
    box_run.segment(request, boxes_text=boxes_text(more), report_path=str(folder / 'report.json'))
    assert '4 boxes: 3 exists, 1 segmented' in capsys.readouterr().out
    told = read_report(folder)
    assert [box['status'] for box in told['boxes']] == ['exists', 'segmented', 'exists', 'exists']
    check_as_stored(folder, told['boxes'][1])
    check_total(told)
    for path, content in before.items():
        assert path.name == 'counters.txt' or path.read_bytes() == content, path


def test_a_run_with_nothing_to_do_changes_nothing(folder):
    """Somebody typed the command a second time."""
    for _ in range(2):
        box_run.segment(str(folder / 'request.pbtxt'), boxes_text=boxes_text(), quiet=True)
        written = (folder / 'results' / 'counters.txt').read_text()
        assert 'predict-calls: ' in written


def test_limits_and_masked_boxes_are_reported(folder, capsys):
    """A box of nothing but mask has an empty result."""
    masks = 'masks { coordinate_expression { expression: "x >= 21" } }'
    request = write_request(folder, masks)
    box_run.segment(
        request,
        boxes_text=boxes_text(),
        options_text='max_object_steps: 5',
        quiet=True,
        report_path=str(folder / 'report.json'),
    )
    told = read_report(folder)
    assert [box['status'] for box in told['boxes']] == ['segmented', 'masked', 'segmented']
    check_total(told)
    limited = told['boxes'][0]['stopped_at_limit']
    assert set(limited.values()) == {'max_object_steps'}
    origins = storage.load_origins(folder / 'results', (0, 0, 0))
    assert {i for i, origin in origins.items() if origin.iters == 5} >= set(map(int, limited))
    assert all(origin.iters <= 5 for origin in origins.values())
    shown = capsys.readouterr().out
    assert '3 boxes: 1 masked, 2 segmented' in shown
    assert f'{told["total"]["stopped_at_limit"]} objects stopped growing' in shown


SMALL_MASK = """
masks { volume {
  mask { hdf5: "volume.h5:small" }
  channels { channel: 0 values: 1 }
} }
"""
MISTAKES = [
    ([], ['--bounding_box', '--bounding_boxes']),
    (
        [f'--bounding_box={box_text(*BOXES[0])}', f'--bounding_boxes={boxes_text()}'],
        ['--bounding_box', '--bounding_boxes'],
    ),
    (['--bounding_boxes=empty.pbtxt'], ['no box']),
    (['--bounding_boxes=none.pbtxt'], ['none.pbtxt']),
    ([f'--bounding_boxes={box_text(*BOXES[0])}'], ['--bounding_boxes', 'BoundingBoxes']),
    (['--bounding_boxes=box { size { x: 9 y: 9 z: 9 } }'], ['box 0', 'start']),
    (
        [f'--bounding_boxes={boxes_text()} box {{ {box_text((1, 1, 1), (9, 0, 9))} }}'],
        ['box 3', 'x,y,z 9,0,9'],
    ),
    (
        [f'--bounding_boxes={boxes_text([*BOXES, ((21, 1, 7), (9, 9, 9))])}'],
        ['boxes 1 and 3', '21,1,7'],
    ),
    # Both are clipped to begin at 0,0,0.
    (
        [f'--bounding_boxes={boxes_text([BOXES[0], ((-5, 0, 0), (20, 20, 20))])}'],
        ['boxes 0 and 1', '0,0,0'],
    ),
    (
        [f'--bounding_boxes={boxes_text([*BOXES, ((0, 90, 0), (9, 9, 9))])}'],
        ['x,y,z 0,90,0', 'z,y,x 0,90,0'],
    ),
    ([f'--bounding_boxes={boxes_text([*BOXES, ((1, 2, 3), (9, 9, 4))])}'], ['9,9,4', '7,5,5']),
    (
        [f'--bounding_boxes={boxes_text()}', '--inference_options=max_object_steps: -3'],
        ['max_object_steps', '-3'],
    ),
    (
        [f'--bounding_boxes={boxes_text()}', '--inference_request=float64.pbtxt'],
        ['float64', 'float32', 'bfloat16', 'float16', 'auto'],
    ),
]


def test_mistakes_get_one_line(repository, folder):
    """And no box is begun, whichever of them is wrong; a box that fails leaves the others alone."""
    (folder / 'empty.pbtxt').write_text('# nothing\n')
    text = (folder / 'request.pbtxt').read_text()
    (folder / 'float64.pbtxt').write_text(text + 'precision: "float64"')
    (folder / 'masked.pbtxt').write_text(text + SMALL_MASK + 'concurrent_requests: 2')
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['small'] = np.zeros((20, 26, 25), np.uint8)
    cases = [['--inference_request=request.pbtxt', *arguments] for arguments, _ in MISTAKES]
    fails = [
        '--inference_request=masked.pbtxt',
        f'--bounding_boxes={boxes_text()}',
        '--report=report.json',
    ]
    *found, failed = call_many(repository, folder, 'run_inference', [*cases, fails])
    for (arguments, words), (status, errors) in zip(MISTAKES, found, strict=True):
        check_one_line(status, errors, *words, what=arguments)

    check_one_line(*failed, '1 of 3 boxes', 'small', '25,26,20')
    saved = sorted(path.name for path in folder.rglob('*.npz'))
    assert saved == ['seg-0_0_0.npz', 'seg-3_10_5.npz']
    told = read_report(folder)
    assert [box['status'] for box in told['boxes']] == ['segmented', 'failed', 'segmented']
    assert 'small' in told['boxes'][1]['error']
    assert told['boxes'][1]['objects'] == told['boxes'][1]['steps'] == 0
    check_as_stored(folder, told['boxes'][0])
    check_total(told)


def test_a_precision_that_does_not_exist_is_refused_before_anything_is_loaded(repository, folder):
    asked = f'--bounding_boxes={boxes_text()}', '--precision=float64'
    done = run_python(folder, *script(repository, *asked)[1:])
    assert (done.returncode, 'Traceback' in done.stderr) == (1, False)
    (line,) = (line for line in done.stderr.splitlines() if 'float64' in line)
    assert re.search(r'--precision.*\bbfloat16\b', line)


def check_bfloat16(folder: Path, expected: dict) -> None:
    told = read_report(folder)
    assert told['precision'] == 'bfloat16'
    corner, size = BOXES[0]
    path = storage.subvolume_path(folder / 'results', corner[::-1], 'npz')
    request = read_npz(path, ['request'], [])['request'].item()
    assert inference_pb2.InferenceRequest.FromString(request).precision == 'bfloat16'
    found = result(folder, corner)
    for name in ('segmentation', 'qprob'):
        assert found[name].dtype == expected[name].dtype == np.uint8
        assert found[name].shape == size[::-1]
    # The weights were chosen by hand and are not far from what bfloat16 has.
    assert np.mean((found['segmentation'] > 0) == (expected['segmentation'] > 0)) > 0.9


def test_bfloat16_by_flag_and_by_request(repository, folder, one_by_one):
    box, corner = box_text(*BOXES[0]), BOXES[0][0]
    options = {'report_path': str(folder / 'report.json'), 'quiet': True}
    box_run.segment(str(folder / 'request.pbtxt'), box, precision='bfloat16', **options)
    check_bfloat16(folder, one_by_one[corner])
    by_flag = result(folder, corner)
    (folder / 'results').rename(folder / 'by_flag')
    request = write_request(folder, 'precision: "bfloat16"')
    box_run.segment(request, box, **options)
    check_bfloat16(folder, one_by_one[corner])
    check_same(result(folder, corner), by_flag)
    # The flag overrides the request.
    (folder / 'results').rename(folder / 'by_request')
    box_run.segment(request, box, precision='float32', **options)
    assert read_report(folder)['precision'] == 'float32'
    check_same(result(folder, corner), one_by_one[corner])


def test_what_the_network_computes_in_is_not_what_it_gives_out(folder):
    from ffn.inference.network import load_network
    from ffn.inference.request import read_config
    from ffn.models.predictor import make_predictor

    config = read_config(write_request(folder, 'precision: "bfloat16"'))
    predict = make_predictor(load_network(config))
    patches = np.random.default_rng(0).normal(size=(2, 3, 5, 5, 7, 1)).astype(np.float32)
    exact = make_predictor(load_network(dataclasses.replace(config, precision='float32')))(*patches)
    found = np.asarray(predict(*patches))
    assert found.dtype == exact.dtype == np.float32
    assert not np.array_equal(found, exact)
    with pytest.raises(UserError, match='float8'):
        load_network(dataclasses.replace(config, precision='float8'))


def test_stopped_with_two_boxes_at_work(repository, folder):
    """Both leave a checkpoint, and the same command goes on from them."""
    boxes = [((0, 0, 0), (37, 26, 14)), ((1, 2, 0), (37, 24, 13))]
    # The smallest deltas: seconds of steps, so that neither ends before the signal.
    write_request(folder, 'concurrent_requests: 2 batch_size: 2', deltas='[1, 1, 1]')
    arguments = [f'--bounding_boxes={boxes_text(boxes)}', '--report=report.json']
    command, pipe = script(repository, *arguments), subprocess.PIPE
    for _ in range(3):
        process = subprocess.Popen(command, cwd=folder, text=True, stderr=pipe, stdout=pipe)
        try:
            begun = 0
            while begun < 2 and (line := process.stderr.readline()):
                begun += 'PolicyPeaks:' in line
            time.sleep(0.1)
            in_time = process.poll() is None and not list(folder.rglob('*.npz'))
            process.send_signal(signal.SIGTERM)
            shown, errors = process.communicate(timeout=120)
        finally:
            process.kill()
        if in_time:
            break
        shutil.rmtree(folder / 'results')  # a busy machine: a box had ended before the signal
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert 'Traceback' not in errors
    saved = sorted(path.name for path in folder.rglob('*.cpoint'))
    assert saved == ['seg-0_0_0.cpoint', 'seg-1_2_0.cpoint']
    assert not list(folder.rglob('*.npz'))
    assert not (folder / 'results' / 'counters.txt').exists()
    told = read_report(folder)
    assert [box['status'] for box in told['boxes']] == ['interrupted'] * 2
    check_total(told)
    assert all(box['steps'] > 0 for box in told['boxes'])
    assert '2 boxes: 2 interrupted' in shown
    assert len([line for line in errors.splitlines() if line.startswith('stopped')]) == 1

    done = run_loaded(folder, *script(repository, *arguments)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('going on from') == 2
    assert not list(folder.rglob('*.cpoint'))
    told = read_report(folder)
    for box in told['boxes']:
        assert 0 < box['resumed_steps'] < box['steps']
        check_as_stored(folder, box)
    check_total(told)
    assert f'{told["total"]["resumed_steps"]} of the steps were made by earlier' in done.stdout
