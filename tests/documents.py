"""What documents show: their code blocks, the command lines in these and in the text, links and headings.

A fence that begins with ```sh is run by a slow test, in the order of the document. Other blocks, fenced or indented, are
examples whose command lines are only parsed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SCRIPTS = {
    'compute_partitions.py': 'partitions',
    'build_coordinates.py': 'coordinates',
    'train.py': 'train',
    'run_inference.py': 'infer',
}
_FENCE = re.compile(r'^ *```(\w*)$')
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")
_ASSIGNMENT = re.compile(r'^\s*([A-Z][A-Z_0-9]*)=(.*)$', re.DOTALL)


class Block(NamedTuple):
    """Code in a document.

    Attributes:
      language: of a fence; '' for an indented block, or if the fence names none.
      text: without the indentation.
      line: number of its first line in the document.
      job: the nearest heading of the second level above.
    """

    language: str
    text: str
    line: int
    job: str


class Command(NamedTuple):
    """A command line of `ffn`.

    Attributes:
      argv: subcommand and flags.
      complete: whether nothing is left out: no … in it.
      line: where its block or the text begins.
    """

    argv: tuple[str, ...]
    complete: bool
    line: int


def read_blocks(text: str) -> Iterator[Block]:
    """Finds the code blocks of a document in Markdown."""
    lines, i, job = text.splitlines(), 0, ''
    while i < len(lines):
        if lines[i].startswith('## '):
            job = lines[i][3:]
        begin = i
        if fence := _FENCE.match(lines[i]):
            while not _FENCE.match(lines[i + 1]):
                i += 1
            yield Block(fence[1], _join(lines[begin + 1 : i + 1]), begin + 2, job)
            i += 1
        elif lines[i].startswith('    ') and (not i or not lines[i - 1].strip()):
            while i + 1 < len(lines) and (lines[i + 1].startswith('    ') or not lines[i + 1]):
                i += 1
            yield Block('', _join(lines[begin : i + 1]), begin + 1, job)
        i += 1


def _join(lines: list[str]) -> str:
    indent = min((len(s) - len(s.lstrip()) for s in lines if s.strip()), default=0)
    return ''.join(f'{line[indent:]}\n' for line in lines)


def read_commands(block: Block) -> Iterator[Command]:
    """Finds the command lines of `ffn`, and of the four scripts, in a block of shell."""
    variables: dict[str, str] = {}
    for statement in _statements(block.text):
        for name, value in variables.items():
            statement = re.sub(rf'\$({name}\b|{{{name}}})', lambda _, v=value: v, statement)
        if assigned := _ASSIGNMENT.match(statement):
            words = _split(assigned[2])
            variables[assigned[1]] = words[0] if words else ''
            statement = ' '.join(map(shlex.quote, words[1:]))
        yield from _find_commands(_split(statement), block.line)


def read_inline_commands(text: str) -> Iterator[Command]:
    """Finds command lines between backticks in the text of a document, outside its blocks."""
    for span, line in _spans(text):
        words = _split(span)
        if len(words) > 1 and words[0] == 'ffn' and re.fullmatch(r'[a-z][a-z-]*', words[1]):
            yield Command(tuple(words[1:]), False, line)


def read_inline_flags(text: str) -> Iterator[tuple[str, int]]:
    """Finds flags between backticks that stand without their command; name and line."""
    for span, line in _spans(text):
        if not span.startswith('ffn '):
            for found in re.finditer(r'(?:^|\s)--([A-Za-z][\w-]*)', span):
                yield found[1], line


def read_links(text: str) -> Iterator[tuple[str, str]]:
    """Finds links to other places of the repository: path, '' for the same document, and anchor or ''."""
    for found in re.finditer(r'\]\(([^()\s]+)\)', _without_blocks(text)):
        if '://' not in found[1]:
            path, _, anchor = found[1].partition('#')
            yield path, anchor


def read_anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub names them."""
    titles = re.findall(r'^#+ +(.*)$', _without_blocks(text), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def _spans(text: str) -> Iterator[tuple[str, int]]:
    text = _without_blocks(text)
    for found in re.finditer(r'`([^`]+)`', text):
        yield ' '.join(found[1].split()), text.count('\n', 0, found.start()) + 1


def _without_blocks(text: str) -> str:
    lines = text.split('\n')
    for block in read_blocks(text):
        first = block.line - 1
        for i in range(first, first + block.text.count('\n')):
            lines[i] = ''
    return re.sub(r'^ *```\w*$', '', '\n'.join(lines), flags=re.MULTILINE)


def _statements(text: str) -> Iterator[str]:
    """Joins lines that belong together: continued ones, and those within quotes; leaves out here-documents."""
    lines, statement, end = iter(text.splitlines()), '', ''
    for line in lines:
        if end:
            end = '' if line.strip() == end else end
            continue
        if not statement and not re.search(r'\b(?:ffn [a-z]|\w+\.py\b)|^\s*[A-Z][A-Z_0-9]*=', line):
            if here := _HEREDOC.search(line):
                end = here[1]
            continue
        statement += line
        if statement.endswith('\\'):
            statement = statement[:-1]
        elif _is_whole(statement):
            yield statement
            statement = ''
        else:
            statement += '\n'
    if statement:
        raise AssertionError(f'a quote is not closed: {statement[:200]}')


def _is_whole(statement: str) -> bool:
    try:
        _split(statement)
    except ValueError:
        return False
    return True


def _split(statement: str) -> list[str]:
    lexer = shlex.shlex(statement, posix=True, punctuation_chars=';|&')
    lexer.whitespace_split = True
    lexer.commenters = ''
    words = list(lexer)
    return words[: words.index('#')] if '#' in words else words


def _find_commands(words: list[str], line: int) -> Iterator[Command]:
    i = 0
    while i < len(words):
        name = Path(words[i]).name
        i += 1
        if name == 'ffn' and i < len(words):
            argv: list[str] = []
        elif name in SCRIPTS and words[i - 2] == 'python':
            argv = [SCRIPTS[name]]
        else:
            continue
        while i < len(words) and not re.fullmatch(r'[;|&]+|>.*', words[i]):
            argv.append(words[i])
            i += 1
        kept = tuple(word for word in argv if '…' not in word)
        yield Command(kept, len(kept) == len(argv), line)
