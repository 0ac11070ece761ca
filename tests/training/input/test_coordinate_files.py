"""Coordinate files: which they are, and what is done about damaged ones."""

import collections
import gzip
import re
import zlib

import pytest
import tensorflow as tf

from ffn.training.input.coordinate_files import (
    check_volumes,
    count_by_volume,
    count_usable,
    find_files,
    usable_records,
)
from ffn.training.input.examples import ExampleSource
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from tests.training import sample
from tests.training.input.records import record, take, write_records, write_shards


def test_coordinate_files_by_list_glob_and_shards(tmp_path):
    names = [f'c-{i:05d}-of-00003' for i in range(3)]
    for name in names:
        (tmp_path / name).touch()
    paths = [f'{tmp_path}/{name}' for name in names]
    assert find_files(f'{tmp_path}/c@3') == paths
    assert find_files(f'{tmp_path}/c-*') == paths
    assert find_files(','.join(paths[:2])) == paths[:2]


def test_missing_coordinate_files(tmp_path):
    for spec in (f'{tmp_path}/c@2', f'{tmp_path}/nothing-*', f'{tmp_path}/none', f'{tmp_path}'):
        with pytest.raises(UserError, match='coordinate'):
            find_files(spec)


def damage(path, kind):
    """Makes a file of coordinates unusable from some place on; returns how many are whole."""
    data = gzip.decompress(path.read_bytes())
    length = len(data) // 10
    if kind == 'truncated':
        path.write_bytes(gzip.compress(data[: 4 * length + 20]))
        return 4
    if kind == 'cut gzip':
        path.write_bytes(path.read_bytes()[:-10])
        return 9
    if kind == 'cut between records':
        stream = zlib.compressobj(wbits=31)
        path.write_bytes(stream.compress(data[: 6 * length]) + stream.flush(zlib.Z_SYNC_FLUSH))
        return 6
    if kind == 'flipped':
        data = bytearray(data)
        data[7 * length + 20] ^= 1
        path.write_bytes(gzip.compress(data))
        return 7
    if kind == 'foreign':
        path.write_bytes(b'x,y,z\n1,2,3\n' * 30)
        return 0
    if kind == 'nothing':
        path.write_bytes(b'')
        return 0
    bad = {
        'no Example': b'\xff\xfe no Example',
        'no center': record((), 'v'),
        'no name': tf.train.Example().SerializeToString(),
    }[kind]
    write_records(path, [record((1, 3, 4), 'v'), bad, record((9, 3, 4), 'v')])
    return 1


KINDS = [
    'truncated',
    'cut between records',
    'cut gzip',
    'flipped',
    'foreign',
    'nothing',
    'no Example',
    'no center',
    'no name',
]


@pytest.mark.parametrize('kind', KINDS)
def test_the_rest_of_a_damaged_file_is_left_out_if_wanted(tmp_path, caplog, kind):
    files = write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    usable = usable_records(files)
    assert usable == {files[1]: whole}
    (message,) = caplog.messages
    assert f'{files[1]} is damaged after {whole} records' in message
    expected = [*range(0, 30, 3), *range(2, 30, 3), *range(1, 30, 3)[:whole]]
    drawn = take(3 * len(expected), files, usable=usable)
    assert collections.Counter(x for _, x, _ in drawn) == dict.fromkeys(expected, 3)


@pytest.mark.parametrize('kind', KINDS)
def test_otherwise_the_error_names_the_damaged_file(tmp_path, kind):
    sample.write_sample(tmp_path)
    files = write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    config = sample.data_config(tmp_path, train_coords=f'{tmp_path}/c@3')

    def use():
        with ExampleSource(config, Zyx(1, 1, 1), 0, 2) as source:
            for _ in range(60):
                next(source)

    with pytest.raises(UserError) as caught:
        use()
    message = str(caught.value)
    assert message.startswith(f'{files[1]} is no intact GZIP TFRecord of coordinates')
    assert f', after {whole} records; --skip_corrupt_records' in message
    assert '\n' not in message


@pytest.mark.parametrize('kind', KINDS)
def test_a_source_goes_on_with_what_is_left(tmp_path, kind):
    """Also where shares of volumes are asked for, which are looked for among the records."""
    sample.write_sample(tmp_path)
    write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    config = sample.data_config(
        tmp_path, train_coords=f'{tmp_path}/c@3', skip_corrupt_records=True, volume_weights={'v': 1}
    )
    with ExampleSource(config, Zyx(1, 1, 1), 0, 2) as source:
        seen = {next(source).center.x for _ in range(3 * (20 + whole))}
    assert seen == {x for x in range(30) if x % 3 != 1} | set(range(1, 30, 3)[:whole])


def test_whole_files_are_usable_to_their_end(files, caplog):
    assert usable_records(files) == {}
    assert count_usable(files[0]) == (10, '')
    assert not caplog.messages


def test_nothing_but_damage_is_an_error_even_so(tmp_path):
    files = write_shards(tmp_path, shards=2)
    for file in files:
        damage(tmp_path / file, 'foreign')
    with pytest.raises(UserError, match=rf'no record of {files[0]}, {files[1]} can be read'):
        usable_records(files)


def test_every_process_needs_a_coordinate(tmp_path):
    files = write_shards(tmp_path, count=3, shards=2)
    found = count_by_volume(files)
    assert found == {'v': 3}
    for workers in (1, 2, 3):
        check_volumes('FILES', found, ['v'], {}, workers)
    with pytest.raises(UserError, match='FILES hold no coordinates for each of 4 processes'):
        check_volumes('FILES', found, ['v'], {}, 4)
    nothing = count_by_volume([write_records(tmp_path / 'nothing', [])])
    with pytest.raises(UserError, match=r'hold no coordinates$'):
        check_volumes('FILES', nothing, ['v'], {})


def test_volumes_that_have_a_share_need_coordinates():
    found = {'u': 2, 'v': 1}
    check_volumes('FILES', found, 'uvx', {'u': 2, 'v': 1, 'x': 0})
    with pytest.raises(UserError, match=r'names x, of which .* none; they hold u, v$'):
        check_volumes('FILES', found, 'uvx', {'u': 1, 'v': 0, 'x': 1})
    check_volumes('FILES', found, 'uv', {'u': 1, 'v': 0}, 2)
    with pytest.raises(UserError, match=r'names v, of which .* fewer than the 2 processes'):
        check_volumes('FILES', found, 'uv', {'u': 1, 'v': 1}, 2)


def test_coordinates_of_other_volumes_are_told_at_the_start(mixed, caplog):
    found = count_by_volume(mixed)
    assert found == {'u': 60, 'v': 15, 'w': 15}
    told = "30 of the 90 coordinates of FILES are of volumes that .* lack: 'v', 'w'; they have u"
    with pytest.raises(UserError, match=told):
        check_volumes('FILES', found, ['u'], {})
    check_volumes('FILES', found, ['u'], {'u': 1})
    (message,) = caplog.messages
    assert re.match(told, message)
    assert message.endswith('; these coordinates are left out')
    caplog.clear()
    check_volumes('FILES', found, ['u', 'v', 'w'], {'u': 1, 'v': 0, 'w': 0})
    assert not caplog.messages


@pytest.mark.parametrize('kind', KINDS)
def test_volumes_are_looked_for_beyond_what_is_damaged(tmp_path, kind):
    files = write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    with pytest.raises(UserError, match=rf'^{files[1]} is no intact .* after {whole} records'):
        count_by_volume(files)
    files.append(write_records(tmp_path / 'last', [record((1, 2, 3), 'last')]))
    found = count_by_volume(files, {files[1]: whole})
    assert found == {'v': 20 + whole, 'last': 1}
