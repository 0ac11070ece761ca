"""Volumes of few coordinates: in the order of the files, which are not read again for them."""

import pytest
import tensorflow as tf

from ffn.training.input import rare_volumes
from ffn.training.input.coordinate_files import count_by_volume
from ffn.training.input.examples import ExampleSource
from ffn.training.input.rare_volumes import RareVolumes
from ffn.utils.geometry import Zyx
from tests.training import sample
from tests.training.input.records import record, take, write_records

# Of more files than are read at once, the last of which have room where others have ended.
LENGTHS = [9, 0, 3, 40, 1, 7, 2, 2, 30, 5, 11, 4, 6, 8, 1, 3, 12, 17, 0, 6, 21, 2]
WEIGHTS = {'u': 1, 'v': 3, 'w': 2}


def shards(folder, lengths):
    """Every seventh record is of v, every eleventh of w, all others of u."""
    files, x = [], 0
    for i, length in enumerate(lengths):
        records = []
        for _ in range(length):
            x += 1
            records.append(record((x, 3, 4), 'v' if x % 7 == 0 else 'w' if x % 11 == 0 else 'u'))
        files.append(write_records(folder / f'c{i}', records))
    return files


def rare_of(files, usable=None):
    rare = RareVolumes(list(WEIGHTS), len(files))
    return rare, count_by_volume(files, usable, rare=rare)


@pytest.mark.parametrize(
    ('count', 'arguments'),
    [(5, {}), (16, {'shard': (1, 2)}), (len(LENGTHS), {'skip': 77, 'shard': (2, 3)})],
)
def test_the_order_is_that_of_the_files(tmp_path, monkeypatch, count, arguments):
    """Over many passes of v and w; u is looked for."""
    files = shards(tmp_path, [*LENGTHS[-count:], 50])
    usable = {files[-1]: 40}
    monkeypatch.setattr(rare_volumes, '_MOST', 25)
    rare, counts = rare_of(files, usable)
    assert {name: name in rare for name in WEIGHTS} == {n: counts[n] <= 25 for n in WEIGHTS}
    assert ('u' in rare, 'w' in rare) == (False, True)
    arguments = {'volume_weights': WEIGHTS, 'usable': usable, **arguments}
    assert take(120, files, rare=rare, **arguments) == take(120, files, **arguments)


def test_a_training_does_not_look_for_them_in_the_files(tmp_path, monkeypatch):
    sample.write_sample(tmp_path)
    config = sample.data_config(tmp_path, volume_weights={'v': 1})
    with ExampleSource(config, Zyx(5, 7, 9), seed=0, ahead=1) as examples:
        monkeypatch.setattr(tf.data, 'TFRecordDataset', None)
        assert next(examples).volume == 'v'
