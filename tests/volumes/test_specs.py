"""Strings that name volumes."""

from __future__ import annotations

import pytest

from ffn.utils.errors import UserError
from ffn.volumes.specs import split_channel, split_named, split_spec


@pytest.mark.parametrize(
    ('spec', 'expected'),
    [
        ('a.h5:raw', ('a.h5', 'raw')),
        ('/d/a.h5:g/raw', ('/d/a.h5', 'g/raw')),
        ('/d:1/a:b.h5:raw', ('/d:1/a:b.h5', 'raw')),
        ('a.h5', ('a.h5', '')),
        ('a.h5:', ('a.h5', '')),
        ('zarr://a.zarr', ('zarr://a.zarr', '')),
        ('zarr:///d/a.zarr:raw', ('zarr:///d/a.zarr', 'raw')),
        ('n5://s3://bucket/a.n5', ('n5://s3://bucket/a.n5', '')),
        ('n5://s3://bucket/a.n5:raw', ('n5://s3://bucket/a.n5', 'raw')),
        ('zarr://http://host:80/a:raw', ('zarr://http://host:80/a', 'raw')),
        ('zarr://http://host:80/a', ('zarr://http://host:80/a', '')),
        ('precomputed://http://host:80', ('precomputed://http://host:80', '')),
    ],
)
def test_split_spec(spec, expected):
    assert split_spec(spec) == expected


@pytest.mark.parametrize(
    ('spec', 'expected'),
    [
        ('a.h5:raw#2', ('a.h5:raw', 2)),
        ('zarr://http://host:80/a#10', ('zarr://http://host:80/a', 10)),
        ('a.zarr@s1#0', ('a.zarr@s1', 0)),
        ('a.h5:raw', ('a.h5:raw', None)),
        ('a.h5:raw#', ('a.h5:raw#', None)),
        ('a#b.h5:raw', ('a#b.h5:raw', None)),
        ('#3', ('#3', None)),
    ],
)
def test_split_channel(spec, expected):
    assert split_channel(spec) == expected


def test_a_folder_may_be_called_like_a_channel(tmp_path):
    (tmp_path / 'scan#3').mkdir()
    assert split_channel(f'{tmp_path}/scan#3') == (f'{tmp_path}/scan#3', None)
    assert split_channel(f'{tmp_path}/scan#3#1') == (f'{tmp_path}/scan#3', 1)


def test_named_volumes_may_be_channels(tmp_path):
    specs = [f'a:{tmp_path}#1', 'b:zarr://a.zarr@s0#2', 'c:c.h5:raw#0']
    assert list(split_named(specs).values()) == [spec[2:] for spec in specs]


@pytest.mark.parametrize('end', ['', '@1', '#0', '@1#0', ':inside'])
def test_named_volumes_may_be_zip_files(tmp_path, end):
    (tmp_path / 'g.zip').touch()
    assert split_named([f'a:{tmp_path}/g.zip{end}']) == {'a': f'{tmp_path}/g.zip{end}'}


def test_split_named_keeps_the_order():
    specs = ['b:b.h5:raw', 'a:/d:1/a.h5:g/raw', 'c:n5://c.n5', 'd:zarr://http://host/d:raw']
    named = split_named(specs)
    assert list(named.items()) == [tuple(spec.split(':', 1)) for spec in specs]


@pytest.mark.parametrize(
    ('specs', 'message'),
    [
        (['a.h5:raw'], "--volumes: 'a.h5:raw' is not of the form name:path:dataset"),
        (['zarr://a.zarr'], "'zarr://a.zarr' is not of the form name:path:dataset$"),
        (['a:absent.zarr'], 'form name:path:dataset, and there is no file or folder absent.zarr$'),
        (['a:absent.zarr@1#0'], 'and there is no file or folder absent.zarr$'),
        (['a:b:c', 'raw'], "'raw' is not of the form name:path:dataset"),
        ([':a.h5:raw'], 'not of the form name:path:dataset'),
        (['a:'], 'not of the form name:path:dataset'),
        ([''], 'not of the form name:path:dataset'),
        ([], '--volumes: no volume is given; expected name:path:dataset'),
        (['a:b.h5:raw', 'a:c.h5:raw'], "--volumes: the name 'a' is given twice"),
    ],
)
def test_split_named_errors(specs, message):
    with pytest.raises(UserError, match=message):
        split_named(specs, '--volumes')


@pytest.mark.parametrize('spec', ['a.h5:raw', 'a.h5:absent.zarr'])
def test_a_volume_without_a_name_is_not_told_to_be_absent(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.h5').touch()
    with pytest.raises(
        UserError, match=f"^--volumes: '{spec}' is not of the form name:path:dataset$"
    ):
        split_named([spec], '--volumes')
