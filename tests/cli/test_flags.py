"""How dataclasses and flags of the subcommands become each other."""

from __future__ import annotations

import dataclasses

import pytest

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.geometry import Xyz
from ffn.utils.settings import section, setting


@dataclasses.dataclass(frozen=True)
class Walk:
    shuffle: bool = setting('order of moves', default=True)


@dataclasses.dataclass(frozen=True)
class Config:
    volume: str = setting('path:dataset')
    radius: Xyz = setting('of the box', parse=Xyz.parse, comma_list=True, metavar='X,Y,Z')
    size: Xyz = setting('100 % of it', parse=Xyz.parse, default=Xyz(8, 8, 4), metavar='X,Y,Z')
    seed: int | None = setting('of the sample', default=None)
    kind: str = setting('which', default='a', choices=('a', 'b'))
    quiet: bool = setting('no progress bar', default=False)
    walk: Walk = section('Movement', default_factory=Walk)


@pytest.fixture
def parser():
    parser = make_parser('try', 'Tries it.', 'ffn try --volume v')
    add_settings(parser, 'What is tried', Config)
    return parser


def read(parser, *arguments):
    return read_settings(parser.parse_args(arguments), Config)


def test_defaults_are_those_of_the_class(parser):
    expected = Config('v:x', Xyz(1, 2, 3))
    assert read(parser, '--volume=v:x', '--radius=1,2,3') == expected
    assert expected.size == (8, 8, 4)


def test_every_flag_reaches_its_field(parser):
    given = ('--volume', 'w', '--radius', '3,2,1', '--size', '1,1,1', '--seed=5', '--kind', 'b', '--quiet', '--noshuffle')  # fmt: skip
    expected = Config('w', Xyz(3, 2, 1), Xyz(1, 1, 1), 5, 'b', True, Walk(False))
    assert read(parser, *given) == expected
    assert read(parser, *given, '--noquiet', '--shuffle').walk.shuffle


@pytest.mark.parametrize(
    'arguments', [['--radius=1,2,3'], ['--volume=v', '--radius=1,2,3', '--kind=c'], ['--seed=x']]
)
def test_a_command_line_that_does_not_parse_ends_with_usage(parser, arguments, capsys):
    with pytest.raises(SystemExit):
        read(parser, *arguments)
    assert 'usage: ffn try' in capsys.readouterr().err


def test_help_shows_groups_defaults_and_axes(parser):
    text = ' '.join(parser.format_help().split())
    assert 'What is tried: ' in text
    assert 'Movement: ' in text
    assert '--size X,Y,Z 100 % of it (default: 8,8,4)' in text
    assert '--kind {a,b} which (default: a)' in text
    assert '--radius X,Y,Z of the box --size' in text
    assert '--seed N of the sample --kind' in text
    assert '[--quiet]' in text
    assert '[--noshuffle]' in text
    assert text.endswith('ffn try --volume v')


def test_a_command_may_leave_out_flags_and_change_defaults():
    parser = make_parser('try', 'Tries it.')
    add_settings(parser, 'What is tried', Config, skip=['volume', 'walk'], radius=Xyz(4, 5, 6))
    args = parser.parse_args([])
    assert read_settings(args, Config, volume='mine') == Config('mine', Xyz(4, 5, 6))
    assert '(default: 4,5,6)' in parser.format_help()
    assert '--noshuffle' not in parser.format_help()
