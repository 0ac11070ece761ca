"""Choosing a checkpoint and settings, with a network that floods what is bright."""

import csv
import shutil

import h5py
import pytest

from ffn.cli import select
from ffn.evaluation import selection, trial_runs, trials
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.inference import inference_pb2
from ffn.inference.request import parse_request
from ffn.models.saved_settings import write_settings
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from tests.inference import flood
from tests.loaded import run_loaded

BOX = 'start { x: 2 y: 0 z: 1 } size { x: 36 y: 26 z: 19 }'


@pytest.fixture
def folder(trained_folder):
    flood.write_request(trained_folder)
    return trained_folder


def arguments(folder, *more, steps=(1, 2, 3)):
    return [
        '--inference_request',
        str(folder / 'request.pbtxt'),
        '--bounding_box',
        BOX,
        '--labels',
        f'{folder}/volume.h5:labels',
        '--output',
        str(folder / 'out'),
        '--quiet',
        '--checkpoint',
        *(f'{folder}/flood/model.ckpt-{n}.index' for n in steps),
        *more,
    ]


def rows(folder):
    with open(folder / 'out' / 'selection.csv', newline='') as file:
        return list(csv.DictReader(file))


VARY = ('--vary', 'inference_options.min_segment_size=50,3000')


def test_the_best_of_checkpoints_and_settings(folder, repository):
    flood.write_request(folder, flood.THOROUGH)
    given = arguments(folder, *VARY, steps=(1, 2))
    done = run_loaded(repository, '-m', 'ffn.evaluation.select', *given)
    assert done.returncode == 0, done.stderr
    table = rows(folder)
    assert len(table) == 4
    assert (table[0]['checkpoint'], table[0]['setting']) == (
        f'{folder}/flood/model.ckpt-1',
        'min_segment_size=50',
    )
    vois = [float(row['voi']) for row in table]
    assert vois == sorted(vois)
    assert vois[0] < vois[1]
    for row in table:
        split, merge = float(row['voi_split']), float(row['voi_merge'])
        assert float(row['voi']) == pytest.approx(split + merge)
    assert 'model.ckpt-1, min_segment_size=50' in done.stdout.splitlines()[1]
    selected = parse_request(str(folder / 'out' / 'selected.pbtxt'))
    assert selected.model_checkpoint_path.endswith('model.ckpt-1')
    assert selected.inference_options.min_segment_size == 50
    assert selected.inference_options.move_threshold == pytest.approx(0.9)  # as given
    assert (folder / 'out' / 'selection.png').read_bytes().startswith(b'\x89PNG')


def test_only_what_is_missing_is_done(folder):
    select.main(arguments(folder, steps=(1, 2)))
    kept = sorted((folder / 'out' / 'trials').iterdir())
    before = [path.stat().st_mtime_ns for path in kept]
    kept[0].write_text('{')  # damaged
    assert len(select.main(arguments(folder))) == 3
    assert [p.stat().st_mtime_ns == t for p, t in zip(kept, before, strict=True)] == [False, True]
    assert len(list((folder / 'out' / 'trials').iterdir())) == 3
    # Under other conditions, nothing of it counts.
    select.main(arguments(folder, '--max_steps', '5', steps=(1,)))
    assert len(list((folder / 'out' / 'trials').iterdir())) == 4


def test_scores_of_what_has_changed_are_made_anew(folder):
    """Under the same names: another network, other labels."""
    trials = folder / 'out' / 'trials'
    select.main(arguments(folder, steps=(1,)))
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['labels'][5, 5, 5] = 0 if file['labels'][5, 5, 5] else 1
    select.main(arguments(folder, steps=(1,)))
    assert len(list(trials.iterdir())) == 2
    checkpoint = folder / 'flood' / 'model.ckpt'
    for part in checkpoint.parent.glob('model.ckpt-2.*'):
        shutil.copy(part, part.with_name(part.name.replace('-2.', '-1.')))
    select.main(arguments(folder, steps=(1,)))
    assert len(list(trials.iterdir())) == 3


@pytest.fixture
def tried(monkeypatch):
    """Trials that take no time; which were run."""
    run = []

    def score(self, trial):
        run.append((trial.checkpoint, trial.setting))
        scores = dict.fromkeys(('voi', 'voi_split', 'voi_merge', 'rand_error'), 1.0)
        return trials.Result(trial.checkpoint, trial.setting, {**scores, 'filled_fraction': 0.5})

    monkeypatch.setattr(trial_runs.Scorer, 'score', score)
    return run


def test_another_image_is_segmented_anew(folder, tried):
    for change, runs in ((False, 1), (False, 1), (True, 2)):
        with h5py.File(folder / 'volume.h5', 'a') as file:
            file['raw'][5, 5, 5] ^= change
        select.main(arguments(folder, steps=(1,)))
        assert len(tried) == runs


def test_a_grid_that_grows_keeps_results_under_their_new_names(folder, tried):
    select.main(arguments(folder, steps=(1,)))
    varied = ['--vary', 'inference_options.segment_threshold=0.6,0.7']
    ranked = select.main(arguments(folder, *varied, steps=(1,)))
    names = ['segment_threshold=0.6', 'segment_threshold=0.7']
    assert [result.setting for result in ranked] == names
    assert [row['setting'] for row in rows(folder)] == names
    assert [setting for _, setting in tried] == ['as given', 'segment_threshold=0.7']
    selected = parse_request(str(folder / 'out' / 'selected.pbtxt'))
    assert selected.inference_options.segment_threshold == pytest.approx(0.6)


def test_two_names_of_one_request_are_one_trial(folder, tried):
    text = 'inference_options { min_segment_size: 50 }'
    options = ['--options', f'a={text}', '--options', f'b={text}']
    ranked = select.main(arguments(folder, *options, steps=(1,)))
    assert [result.setting for result in ranked] == ['a', 'b']
    assert len(tried) == 1


@pytest.mark.parametrize(
    ('scores', 'told'),
    [
        ({'complete': True, 'filled_fraction': 0.5}, ''),
        ({'complete': False, 'filled_fraction': 0.5}, 'the best trial was stopped at a limit'),
        (
            {'complete': True, 'filled_fraction': 0.0},
            'the best trial segmented nothing: voi_split counts',
        ),
    ],
)
def test_a_winner_that_says_little_is_told(tmp_path, monkeypatch, caplog, scores, told):
    both = [
        (trials.Trial('x-1', name, inference_pb2.InferenceRequest()), trials.Result('x-1', name, s))
        for name, s in (
            ('second', {'voi_split': 1.0, 'voi_merge': 0, 'filled_fraction': 0.0}),
            ('first', {'voi_split': 0.5, 'voi_merge': 0, **scores}),
        )
    ]
    monkeypatch.setattr(selection, 'run_trials', lambda *_, **__: both)
    config = trial_runs.SweepConfig('v.h5:labels', Box(Xyz(0, 0, 0), Xyz(9, 8, 7)))
    ranked = selection.select([], config, tmp_path, 'voi_split')
    assert ranked[0].setting == 'first'
    assert told in caplog.text
    assert len(caplog.records) == (told != '')


@pytest.mark.parametrize(
    ('name', 'step'),
    [
        ('a/model.ckpt-100', 100),
        ('a/model.ckpt-100.weights.h5', 100),
        ('a-7/mine.weights.h5', 0),
        ('mine', 0),
    ],
)
def test_the_step_of_a_checkpoint(name, step):
    assert selection.parse_step(name) == step


def test_mistakes_about_skeletons_are_told_before_anything_is_segmented(folder, monkeypatch):
    monkeypatch.setattr(HeldOutBox, 'segment', None)
    size = (8, 9.5, 33)
    flags = write_skeletons(folder, size)
    with pytest.raises(UserError, match=r'nowhere\.swc'):
        select.main(arguments(folder, '--skeletons', 'nowhere.swc', steps=(1,)))
    with pytest.raises(UserError, match='voxel size is not known'):
        select.main(arguments(folder, *flags, steps=(1,)))
    with pytest.raises(UserError, match='--merge_threshold is -1'):
        select.main(arguments(folder, *flags, '--merge_threshold=-1', steps=(1,)))
    with pytest.raises(UserError, match='--merge_threshold needs --skeletons'):
        select.main(arguments(folder, '--merge_threshold=1', steps=(1,)))


def test_two_selections_in_one_folder(folder):
    with exclusive_directory(folder / 'out'):
        with pytest.raises(UserError, match=r'another command works in .*out'):
            select.main(arguments(folder, steps=(1,)))
    assert [path.name for path in (folder / 'out').iterdir()] == ['.lock']


@pytest.mark.slow
def test_dask_workers_find_the_same(folder):
    pytest.importorskip('distributed')
    alone = select.main(arguments(folder, *VARY, steps=(1, 2)))
    more = ['--output', str(folder / 'together'), '--scheduler', 'local', '--workers', '2']
    together = select.main(arguments(folder, *VARY, *more, steps=(1, 2)))
    for one, other in zip(alone, together, strict=True):
        assert (one.checkpoint, one.setting) == (other.checkpoint, other.setting)
        assert {**one.scores, 'seconds': 0} == {**other.scores, 'seconds': 0}


def write_skeletons(folder, size):
    """Writes one through body 2, and one that leaves the box; node coordinates are voxels times size."""
    for name, voxels in (
        ('two', [(6, 18, 6), (18, 18, 6), (30, 18, 6)]),
        ('one', [(4, 5, 9), (30, 5, 9), (60, 5, 9)]),
    ):
        rows = [
            f'{i} 0 {x * size[0]} {y * size[1]} {z * size[2]} 1 {i - 1 or -1}\n'
            for i, (x, y, z) in enumerate(voxels, start=1)
        ]
        (folder / f'{name}.swc').write_text(''.join(rows))
    return ['--skeletons', str(folder / 'one.swc'), str(folder / 'two.swc')]


@pytest.mark.parametrize('known_from', ['the request', 'the training'])
def test_expected_run_length_decides_with_skeletons(folder, known_from):
    size = (8, 9.5, 33)
    flood.write_request(folder, flood.THOROUGH)
    if known_from == 'the request':
        with open(folder / 'request.pbtxt', 'a') as file:
            file.write('voxel_size { x: 8 y: 9.5 z: 33 }')
    else:
        write_settings(folder / 'flood', {'voxel_size': size})
    ranked = select.main(arguments(folder, *write_skeletons(folder, size), steps=(1, 2)))
    erls = [result.scores['erl'] for result in ranked]
    assert erls == sorted(erls, reverse=True)
    assert ranked[0].checkpoint.endswith('-1')
    # 24 and 26 voxels, all of them correct.
    assert erls[0] == pytest.approx(8 * (24**2 + 26**2) / 50)
    assert erls[-1] == 0


def test_skeletons_are_not_placed_without_a_voxel_size(folder):
    with pytest.raises(UserError, match=r'voxel size is not known.*set voxel_size in the request'):
        select.main(arguments(folder, *write_skeletons(folder, (1, 1, 1)), steps=(1,)))


def test_a_trial_that_fails_keeps_none_from_it(folder):
    bad = 'no model=model_checkpoint_path: "x" model_args: "{\\"depth\\": 7}"'
    options = [
        '--options',
        bad,
        '--options',
        'as it is=min_segment_size: 1'.replace(
            'min_segment_size: 1', 'inference_options { min_segment_size: 50 }'
        ),
    ]
    with pytest.raises(UserError, match='1 of 2 trials failed'):
        select.main(arguments(folder, *options, steps=(1,)))
    assert [row['setting'] for row in rows(folder)] == ['as it is']


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--vary', 'x'], 'not of the form FIELD=VALUE'),
        (['--options', '=y'], 'not of the form'),
        (['--vary', 'inference_options.nothing=1'], 'no field named "nothing"'),
        (['--options', 'a=batch_size: 1', '--options', 'a=batch_size: 2'], 'name twice'),
        (['--metric', 'erl'], 'needs --skeletons'),
        (['--workers', '0'], '--workers is 0'),
        (['--scheduler', 'nowhere'], 'neither a file nor known'),
        (['--labels', 'none.h5:x'], 'none.h5'),
    ],
)
def test_bad_input(folder, more, message):
    with pytest.raises(UserError, match=message):
        select.main(arguments(folder, *more, steps=(1,)))


def test_settings_are_all_combinations():
    settings = trials.make_settings(
        ['a=use_ema: true', 'b=use_ema: false'],
        ['batch_size=1,2', 'inference_options.pad_value=0.1'],
    )
    assert settings == {
        f'{name} batch_size={n} pad_value=0.1': [
            f'use_ema: {value}',
            f'batch_size: {n}',
            'inference_options { pad_value: 0.1 }',
        ]
        for name, value in (('a', 'true'), ('b', 'false'))
        for n in (1, 2)
    }
    assert list(trials.make_settings([], [])) == ['as given']
    with pytest.raises(UserError, match='--vary has a field twice'):
        trials.make_settings([], ['batch_size=1', 'batch_size=2,3'])


def test_varied_options_override_the_request_one_after_the_other():
    request = inference_pb2.InferenceRequest(batch_size=4)
    request.inference_options.min_segment_size = 9
    options = ['a=inference_options { pad_value: 0.25 segment_threshold: 0.75 }']
    vary = ['inference_options.pad_value=0.5', 'inference_options.move_threshold=0.5,0.75']
    found = trials.make_trials(request, ['x'], trials.make_settings(options, vary))
    assert [trial.request.inference_options.move_threshold for trial in found] == [0.5, 0.75]
    for trial in found:
        made = trial.request.inference_options
        assert (made.pad_value, made.segment_threshold, made.min_segment_size) == (0.5, 0.75, 9)
        assert trial.request.batch_size == 4
    twice = trials.make_settings(['a=batch_size: 1 batch_size: 2'], [])
    with pytest.raises(UserError, match='"batch_size"'):
        trials.make_trials(request, ['x'], twice)
