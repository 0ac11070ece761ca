"""The command `ffn`: its map, its subcommands, and what their help says."""

from __future__ import annotations

import argparse
import importlib
import re

import pytest

from ffn import __version__
from ffn.cli import main
from ffn.utils.errors import UserError
from tests.calls import check_one_line, run_python

COMMANDS = main.find_commands()
TRIPLE = re.compile(
    r'(^|_)(size|radius|margin|overlap|start|shape|offset|corner|point|voxel|center|chunk)s?(_|$)'
)
NO_TRIPLES = {'image_offset_scale_map'}  # of intensities
AXES = re.compile(r'\b[xX],\s?[yY],\s?[zZ]\b|\b[zZ],\s?[yY],\s?[xX]\b')


@pytest.mark.parametrize('argv', [[], ['--help'], ['-h'], ['help']])
def test_the_map_shows_every_command(argv, capsys):
    main.main(argv)
    shown = capsys.readouterr().out
    for name, command in main.find_commands().items():
        assert re.search(rf'^  {name} +{re.escape(command.summary)}$', shown, re.MULTILINE)
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_help_of_a_command_asked_for_by_name(capsys):
    with pytest.raises(SystemExit):
        main.main(['help', 'demo'])
    assert capsys.readouterr().out.startswith('usage: ffn demo ')


def test_the_version(capsys):
    main.main(['--version'])
    assert capsys.readouterr().out == f'ffn {__version__}\n'
    assert re.fullmatch(r'\d+\.\d+\.\d+', __version__)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [('segmnt', 'did you mean segment'), ('import_stack', 'import-stack'), ('xyzzy', 'partitions')],
)
def test_a_command_that_does_not_exist(name, hint):
    with pytest.raises(UserError, match=f"'{name}'.*{hint}"):
        main.main([name])


def test_as_a_module_in_a_process(tmp_path, repository):
    def call(*arguments):
        return run_python(tmp_path, '-m', 'ffn', *arguments, env={'PYTHONPATH': str(repository)})

    assert 'From labels to a network' in call().stdout
    wrong = call('nothing')
    check_one_line(wrong.returncode, wrong.stderr, "'nothing'", 'infer')


class ParserMade(Exception):  # noqa: N818
    """Carries the parser of a command out of its `main`."""


@pytest.fixture(params=COMMANDS)
def parser(request, monkeypatch):
    """The parser of each subcommand, as its `main` has made it."""

    def caught(self, args=None, namespace=None):
        raise ParserMade(self)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', caught)
    module = importlib.import_module(f'ffn.cli.{COMMANDS[request.param].module}')
    with pytest.raises(ParserMade) as made:
        module.main(['--help'])
    return made.value.args[0]


def test_help_of_every_command(parser):
    text = parser.format_help()
    assert text.startswith('usage: ffn ')
    flags = [action for action in parser._actions if action.dest != 'help']
    for action in flags:
        shown = re.sub(r'\s+', ' ', parser._get_formatter()._expand_help(action))
        name = action.option_strings[0] if action.option_strings else action.dest
        assert shown, f'{name} has no help'
        default = action.default
        if isinstance(default, int | float | str | list | tuple) and not isinstance(default, bool):
            has_default = default not in ('', [], ())
            assert 'default' in shown or not has_default, f'{name}: {shown}'
        metavar = action.metavar if isinstance(action.metavar, str) else ''
        scalar = action.type in (int, float) or action.choices or action.dest in NO_TRIPLES
        if TRIPLE.search(action.dest) and not scalar:
            assert AXES.search(f'{metavar} {shown}'), f'{name} names no axis order: {shown}'


def test_flags_are_in_groups(parser):
    groups = [g for g in parser._action_groups if g._group_actions]
    general = parser._optionals._group_actions
    ungrouped = [a for a in general if a.dest not in ('help', 'flagfile', 'quiet')]
    common = ('help', 'allow_module', 'allow_remote', 'log_json')  # every command has them
    flags = [action for action in parser._actions if action.dest not in common]
    assert not ungrouped or len(flags) <= 4, f'not in a group: {[a.dest for a in ungrouped]}'
    assert all(group.title for group in groups)


LOAD_ALL = """
import contextlib, importlib, io, sys
with contextlib.redirect_stdout(io.StringIO()):
    for module in sys.argv[1:]:
        with contextlib.suppress(SystemExit):
            importlib.import_module(f'ffn.cli.{module}').main(['--help'])
frameworks = ('tensorflow', 'keras', 'jax', 'torch', 'distributed', 'matplotlib')
print({name for name in frameworks if name in sys.modules})
"""


def test_help_is_shown_without_loading_frameworks(repository):
    modules = [command.module for command in COMMANDS.values()]
    done = run_python(repository, '-c', LOAD_ALL, *modules)
    assert (done.returncode, done.stdout) == (0, 'set()\n'), done.stderr
