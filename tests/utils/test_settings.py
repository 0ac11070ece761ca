"""Dataclasses whose fields are flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.utils.settings import Section, Setting, all_settings, build, members, section, setting


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = setting('of learning', default=0.5)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = setting('of the volume')
    margin: Zyx = setting('to the faces', parse=Zyx.parse, comma_list=True, flag='border')
    size: Xyz = setting('in voxels', parse=Xyz.parse, default=Xyz(8, 8, 4), metavar='X,Y,Z')
    limit: int | None = setting('at most', default=None)
    scales: Mapping[str, float] = setting(
        'name:scale',
        parse=lambda texts, flag: {n: float(v) for n, v in (t.split(':') for t in texts)},
        comma_list=True,
        default_factory=dict,
    )
    inner: Inner = section('Learning', default_factory=Inner)
    seen: int = 3


def test_a_field_says_all_about_its_flag():
    by_field = {m.field: m for m in members(Outer) if isinstance(m, Setting)}
    assert list(by_field) == ['name', 'margin', 'size', 'limit', 'scales']
    assert [s.kind for s in by_field.values()] == [str, list, str, int, list]
    assert by_field['margin'].flag == 'border'
    assert by_field['size'].metavar == 'X,Y,Z'
    assert by_field['size'].as_flag(Xyz(8, 8, 4)) == '8,8,4'
    assert by_field['margin'].as_flag(Zyx(1, 2, 3)) == ['1', '2', '3']
    assert by_field['scales'].as_flag(by_field['scales'].default) == []
    assert members(Outer)[-1] == Section('inner', 'Learning', Inner)
    assert [s.flag for s in all_settings(Outer)][-1] == 'rate'


def test_flags_make_the_instance():
    flags = {'name': 'v', 'border': ['1', '2', '3'], 'size': '8,8,4', 'scales': [], 'rate': 0.25}
    assert build(Outer, flags) == Outer('v', Zyx(1, 2, 3), inner=Inner(0.25))
    flags |= {'size': '1,2,3', 'scales': ['a:2'], 'limit': 9}
    expected = Outer('w', Zyx(1, 2, 3), Xyz(1, 2, 3), 9, {'a': 2.0}, Inner(7), 4)
    assert build(Outer, flags, name='w', inner=Inner(7), seen=4) == expected


def test_an_error_names_the_flag():
    with pytest.raises(UserError, match=r'--border is .*three integers z,y,x'):
        build(Outer, {'name': 'v', 'border': ['1', '2']})


@pytest.mark.parametrize('metavar', ['FOLDER', 'DIR'])
def test_a_url_is_no_folder(metavar):
    @dataclasses.dataclass(frozen=True)
    class Command:
        output: str = setting('folder', default='', metavar=metavar)
        volume: str = setting('volume', default='', metavar='VOLUME')

    url = 'gs://bucket/results'
    assert build(Command, {'output': '', 'volume': url}) == Command('', url)
    with pytest.raises(UserError, match=f'^--output is {url}; expected a folder of this machine'):
        build(Command, {'output': url})


def test_a_type_that_no_flag_has_needs_a_parser():
    @dataclasses.dataclass
    class Bad:
        size: Xyz = setting('in voxels')

    with pytest.raises(TypeError, match=r'Bad\.size .*needs a parse function'):
        members(Bad)
