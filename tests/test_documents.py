"""Documents say what is so: their command lines are those of `ffn`, their links lead somewhere."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from ffn.cli.main import find_commands
from ffn.utils import event_log, trust
from tests import documents, run_documents, test_manual, test_tutorial
from tests.conftest import ROOT

DOCUMENTS = sorted(
    {
        path.relative_to(ROOT).as_posix()
        for pattern in ('*.md', 'doc/*.md', '*/README.md', 'third_party/*/README.md')
        for path in ROOT.glob(pattern)
        if path.name != 'CHANGELOG.md'  # tells of flags that were
        and not path.relative_to(ROOT).parts[0].startswith('.')  # what tools leave
    }
)
# Of SLURM, Dask and TensorBoard, and of this project's benchmarks and fuzzing.
FOREIGN_FLAGS = {
    *('help', 'version', 'requeue', 'lifetime', 'resources', 'tls-ca-file', 'logdir', 'arguments'),
    *('loader', 'case', 'cases', 'together'),
}


class _ParsedError(Exception):
    """The command line was parsed; carries the parser."""


@pytest.fixture
def parse(monkeypatch):
    """A function that parses a command line as the command does, and goes no further; returns its flags."""

    def parse_args(self, args=None, namespace=None):
        if not complete:
            for action in self._actions:
                action.required = False
            for group in self._mutually_exclusive_groups:
                group.required = False
        original(self, args, namespace)
        raise _ParsedError(self)

    def call(argv, is_complete=True):
        nonlocal complete
        complete = is_complete
        module = importlib.import_module(f'ffn.cli.{find_commands()[argv[0]].module}')
        with pytest.raises(_ParsedError) as parsed:
            module.main(list(argv[1:]))
        return set(parsed.value.args[0]._option_string_actions)

    complete, original = True, argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(event_log, 'turn_on', lambda: None)
    monkeypatch.setattr(trust, 'allow', lambda *_, **__: None)
    monkeypatch.chdir(ROOT)
    return call


def test_a_wrong_command_line_is_noticed(parse, capsys):
    text = 'Try `ffn view --colour red`.\n\n    N=3\n    ffn train \\\n      --max_steps $N --data "a b" |\\\n    ffn serve x; ffn demo --size 3\n'
    (block,) = documents.read_blocks(text)
    found = [command.argv for command in documents.read_commands(block)]
    assert found == [
        ('train', '--max_steps', '3', '--data', 'a b'),
        ('serve', 'x'),
        ('demo', '--size', '3'),
    ]
    (inline,) = documents.read_inline_commands(text)
    assert inline.argv == ('view', '--colour', 'red')
    for argv in (
        inline.argv,
        ('demo', '--colour', 'red'),
        ('demo', '--size'),
        ('demo', '--size', 'big'),
    ):
        with pytest.raises(SystemExit):
            parse(argv)
    assert '--size' in parse(('demo', '--size', '3'))
    with pytest.raises(SystemExit):
        parse(['synthetic', '--seed', '1'])
    parse(['synthetic', '--seed', '1'], False)
    assert 'unrecognized arguments: --colour red' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('document', 'replaced', 'count'),
    [
        ('doc/manual.md', test_manual.SMALLER, 10),
        ('doc/tutorial.md', test_tutorial.SHORTER, 7),
    ],
)
def test_jobs_that_are_run_are_found(document, replaced, count):
    jobs = run_documents.read_jobs(document)
    assert len(jobs) == count
    assert all('ffn ' in script for script in jobs.values())
    for job, texts in replaced.items():
        assert all(typed in jobs[job] for typed in texts), job


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding='utf-8')


@pytest.mark.parametrize('document', DOCUMENTS)
def test_command_lines_are_those_of_ffn(document, parse, capsys):
    text = _text(document)
    found = [c for block in documents.read_blocks(text) for c in _commands(block)]
    for command in found:
        argv = [word for word in command.argv if word not in ('--help', '-h')]
        if not argv or argv[0].startswith('-') or argv[0].isupper():
            continue
        files = [word for word in argv if word.startswith('--flagfile')]
        missing = [word for word in files if not Path(word.partition('=')[2]).is_file()]
        where = f'{document}:{command.line}: ffn {" ".join(argv)}'
        assert argv[0] in find_commands(), where
        complete = command.complete and len(argv) == len(command.argv) and not missing
        try:
            parse([word for word in argv if word not in missing], complete)
        except SystemExit:
            pytest.fail(f'{where}\n{capsys.readouterr().err[-500:]}')
    for command in documents.read_inline_commands(text):
        where = f'{document}:{command.line}: ffn {" ".join(command.argv)}'
        assert command.argv[0] in find_commands(), where
        flags = {word.partition('=')[0] for word in command.argv if word.startswith('--')}
        assert flags <= parse(command.argv[:1], False), where


def _commands(block: documents.Block) -> list[documents.Command]:
    return list(documents.read_commands(block)) if block.language in ('', 'sh') else []


def test_flags_in_the_text_exist(parse):
    known = set().union(*(parse([name], False) for name in find_commands()))
    unknown = [
        f'{document}:{line}: --{flag}'
        for document in DOCUMENTS
        for flag, line in documents.read_inline_flags(_text(document))
        if f'--{flag}' not in known and flag not in FOREIGN_FLAGS
    ]
    assert not unknown


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_lead_somewhere(document):
    for path, anchor in documents.read_links(_text(document)):
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f'{document}: {path}'
        if anchor and target.suffix == '.md':
            anchors = documents.read_anchors(target.read_text(encoding='utf-8'))
            assert anchor in anchors, f'{document}: {path}#{anchor}'
