"""The demo as `make demo` calls it, but with next to no training."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ffn.cli.demo import main
from ffn.demo import report, stages
from ffn.inference import storage
from ffn.utils.errors import UserError
from tests.calls import check_one_line, run_python


@pytest.fixture(scope='module')
def untrained(tmp_path_factory, repository):
    out = tmp_path_factory.mktemp('demo') / 'out'
    done = run_python(
        repository, '-m', 'ffn.demo', f'--output={out}', '--size=48', '--train_steps=2'
    )
    return out, done


def test_a_network_that_has_learned_nothing_fails(untrained):
    out, done = untrained
    check_one_line(done.returncode, done.stderr, 'above 0.10')
    error = float(re.search(r'error on the unseen sample: ([\d.]+)', done.stdout)[1])
    assert error > 0.5
    for command in ('partitions', 'coordinates', 'train', 'infer'):
        assert f'ffn {command} --' in done.stdout
    assert f'{error:.4f}' in (out / 'report.html').read_text()


def test_a_result_like_the_truth_has_no_error(untrained):
    out, _ = untrained
    with h5py.File(out / 'unseen.h5') as file:
        image, truth = file['image'][:], file['labels'][:]
    with h5py.File(out / 'train.h5') as file:
        assert not np.array_equal(file['image'][:], image)
    origins = {i: storage.OriginInfo((1, 2, 3), 4, 0.5) for i in range(1, int(truth.max()) + 1)}
    storage.save_result(out / 'results', (0, 0, 0), truth, origins, b'', {}, {})
    score = report.score_and_report(out, ['ffn train'])
    assert score.error == 0
    page = (out / 'report.html').read_text()
    assert page.count('<img') == 4
    assert 'ffn train' in page
    pictures = {
        name: np.asarray(Image.open(out / f'{name}.png'))
        for name in ('image', 'truth', 'segmentation', 'training', 'overview')
    }
    assert np.array_equal(pictures['truth'], pictures['segmentation'])
    assert not np.array_equal(pictures['image'], pictures['truth'])
    assert pictures['overview'].shape == (96, 3 * 96 + 2 * 8, 3)


def test_it_replaces_its_own_folder_and_no_other(tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match='not of an earlier demo'):
        stages.prepare_folder(tmp_path)
    assert (tmp_path / 'thesis.txt').exists()
    for _ in range(2):
        out = stages.prepare_folder(tmp_path / 'demo')
        assert [path.name for path in out.iterdir()] == [stages.MARK]
        (out / 'train.h5').write_text('of an earlier demo')
        (out / 'model').mkdir()
        (out / 'link').symlink_to(tmp_path)
    assert (tmp_path / 'thesis.txt').exists()


def test_an_earlier_demo_in_the_current_folder_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert stages.prepare_folder(Path()) == Path()
        assert [path.name for path in tmp_path.iterdir()] == [stages.MARK]
        Path('train.h5').write_text('of an earlier demo')


@pytest.mark.parametrize(
    ('flag', 'message'),
    [('--size=26', '--size is 26; expected 27 or more'), ('--train_steps=0', '--train_steps is 0')],
)
def test_an_earlier_demo_stays_if_there_can_be_no_other(tmp_path, flag, message):
    out = stages.prepare_folder(tmp_path / 'demo')
    (out / 'report.html').write_text('of an earlier demo')
    with pytest.raises(UserError, match=message):
        main([f'--output={out}', flag])
    assert (out / 'report.html').exists()
