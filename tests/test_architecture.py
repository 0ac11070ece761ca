"""The rules that keep the code readable: imports, sizes, docstrings, and what must not be in a file.

The direction of imports is checked by import-linter, whose contracts are in pyproject.toml. Every other
rule is a function from sources to findings, 'path:line: what is wrong'; it is applied to the repository
and to a small example that breaks it, so that a rule that never finds anything is noticed.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.calls import run_python
from tests.conftest import ROOT

SCRIPTS = ('build_coordinates', 'compute_partitions', 'run_inference', 'train')
PACKAGES = (
    *('cli', 'utils', 'volumes', 'distributed', 'models', 'training', 'inference', 'assembly'),
    *('agglomeration', 'export', 'evaluation', 'visualization', 'demo', 'synthetic'),
)
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 70
TOP_LEVEL = [
    *[
        '.ci/run',
        '.pre-commit-config.yaml',
        'CHANGELOG.md',
        'CITATION.cff',
        'CONTRIBUTING.md',
        'LICENSE',
        'Makefile',
        'README.md',
        'benchmarks',
        'configs',
        'doc/design.md',
        'doc/formats.md',
        'doc/manual.md',
        'doc/reference.md',
        'doc/tutorial.md',
        'ffn/py.typed',
        'models',
        'notebooks',
        'pyproject.toml',
        'requirements.txt',
        'tests',
        'third_party',
    ],
    *(f'ffn/{package}/__init__.py' for package in PACKAGES),
    *(f'{script}.py' for script in SCRIPTS),
]
MACHINE_PATH = re.compile(r'(?:(?<![\w.~})>*/-])|(?<=://))/(?:work|root|home|Users)(?![\w.-])')
PACKAGE_INDEX = re.compile(
    r'\b(?:pypi|testpypi|pythonhosted|anaconda|artifactory|devpi)[\w-]*\.[a-z]{2,8}\b|index[-]url'
)


class Source(NamedTuple):
    """A Python file.

    Attributes:
      path: relative to the repository, with slashes.
      text: what it holds.
      tree: the same, parsed.
    """

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text, path))

    def finding(self, line: int, message: str) -> str:
        return f'{self.path}:{line}: {message}'

    @property
    def is_test(self) -> bool:
        return self.path.startswith('tests/')

    @property
    def is_script(self) -> bool:
        return self.path.removesuffix('.py') in SCRIPTS


Rule = Callable[[list[Source]], Iterator[str]]


@pytest.fixture(scope='module')
def sources() -> list[Source]:
    """All Python files of the repository."""
    paths = [*ROOT.glob('*.py')]
    for folder in ('ffn', 'benchmarks', 'tests'):
        paths += ROOT.joinpath(folder).rglob('*.py')
    return [
        Source.of(path.relative_to(ROOT).as_posix(), path.read_text(encoding='utf-8'))
        for path in sorted(paths)
    ]


@pytest.fixture(scope='module')
def tracked_texts() -> dict[str, str]:
    """All text files that git knows, {path: content}."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip('not a git checkout')
    texts = {}
    for name in filter(None, listed.stdout.split('\0')):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b'\0'
        if b'\0' not in data:
            texts[name] = data.decode('utf-8', errors='replace')
    return texts


# Imports.


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Lines and full names of all imports, those inside functions too."""
    package = source.path.split('/')[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = '.'.join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{base}.{alias.name}') for alias in node.names)


def within(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or below it."""
    return any(name == package or name.startswith(f'{package}.') for package in packages)


def forbidden_imports(
    sources: list[Source], where: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()
) -> Iterator[str]:
    for source in sources:
        if not re.match(where, source.path):
            continue
        for line, name in imported(source):
            if within(name, *forbidden) and not within(name, *allowed):
                yield source.finding(line, f'imports {name}')


def library_imports_no_script(sources: list[Source]) -> Iterator[str]:
    return forbidden_imports(sources, 'ffn/', (*SCRIPTS, 'benchmarks', 'tests'))


def only_scripts_use_flags(sources: list[Source]) -> Iterator[str]:
    where = rf'(?!tests/|ffn/cli/|({"|".join(SCRIPTS)})\.py)'
    return forbidden_imports(sources, where, ('absl.flags',))


# Sizes and statements.


def modules_are_short(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        lines = source.text.count('\n')
        if lines > MAX_MODULE_LINES:
            yield source.finding(lines, f'{lines} lines; at most {MAX_MODULE_LINES}')


def functions_are_short(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield source.finding(
                        node.lineno, f'{node.name} has {lines} lines; at most {MAX_FUNCTION_LINES}'
                    )


def todos_name_an_issue(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT and re.search(
                r'\b(TODO|FIXME|XXX)\b(?!.*#\d)', token.string
            ):
                yield source.finding(token.start[0], f'{token.string!r} names no issue')


def hdf5_files_are_opened_with_a_mode(sources: list[Source]) -> Iterator[str]:
    """Without one, releases of h5py differ in whether a file is opened for writing."""
    for source in (source for source in sources if not source.is_test):
        for node in ast.walk(source.tree):
            opens = isinstance(node, ast.Call) and ast.unparse(node.func) == 'h5py.File'
            if opens and len(node.args) < 2 and 'mode' not in {one.arg for one in node.keywords}:
                yield source.finding(node.lineno, 'h5py.File without a mode')


# Docstrings.


def public_things_have_docstrings(sources: list[Source]) -> Iterator[str]:
    """Modules, and public classes, functions and methods; overrides of documented methods need none."""
    library = [source for source in sources if not source.is_test]
    classes = {
        node.name: node
        for source in library
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    }

    def inherited(cls: ast.ClassDef, method: str) -> bool:
        for base in cls.bases:
            parent = classes.get(ast.unparse(base).rpartition('.')[2])
            if parent is None:
                continue
            own = [n for n in parent.body if isinstance(n, ast.FunctionDef) and n.name == method]
            if any(map(ast.get_docstring, own)) or inherited(parent, method):
                return True
        return False

    def undocumented(node: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
        for child in node.body:
            if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if child.name.startswith('_'):
                continue
            by_base = isinstance(node, ast.ClassDef) and inherited(node, child.name)
            if not ast.get_docstring(child) and not by_base:
                yield child.lineno, child.name
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child)

    for source in library:
        if not ast.get_docstring(source.tree):
            yield source.finding(1, 'the module has no docstring')
        for line, name in undocumented(source.tree):
            yield source.finding(line, f'{name} has no docstring')


EXAMPLES: list[tuple[Rule, str, str, str]] = [
    # rule, path, content that breaks it, content that does not
    (library_imports_no_script, 'ffn/a.py', 'import train\n', 'import ffn.training\n'),
    (only_scripts_use_flags, 'ffn/a.py', 'from absl import app, flags\n',
     'from absl import logging\n'),
    (only_scripts_use_flags, 'benchmarks/a.py', 'import absl.flags\n', 'import argparse\n'),
    (modules_are_short, 'ffn/a.py', 'x = 1\n' * 401, 'x = 1\n' * 400),
    (functions_are_short, 'ffn/a.py', 'class A:\n  def f():\n' + '    x\n' * 70,
     'def f():\n' + '  x\n' * 69),
    (todos_name_an_issue, 'ffn/a.py', 'x = 1  # TODO: later\n',
     'x = "TODO"\n# TODO(#12): later\n'),
    (hdf5_files_are_opened_with_a_mode, 'ffn/a.py', 'h5py.File(path, locking=False)\n',
     'h5py.File(path, mode="r")\nh5py.File(path, "w")\n'),
    (public_things_have_docstrings, 'ffn/a.py', 'x = 1\n', '"""A."""\n'),
    (public_things_have_docstrings, 'ffn/a.py', '"""A."""\ndef f():\n    pass\n',
     '"""A."""\ndef _f():\n    pass\n'),
    (public_things_have_docstrings, 'ffn/a.py',
     '"""A."""\nclass A:\n    """A."""\n    def f(self):\n        pass\n',
     '"""A."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n'
     'class _B(A):\n    pass\nclass C(_B):\n    """C."""\n    def f(self):\n        pass\n'),
]  # fmt: skip
RULES = list(dict.fromkeys(rule for rule, *_ in EXAMPLES))


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule, sources):
    found = list(rule(sources))
    assert not found, f'{rule.__name__}:\n' + '\n'.join(found)


@pytest.mark.parametrize(('rule', 'path', 'bad', 'good'), EXAMPLES)
def test_rule_finds_what_breaks_it(rule, path, bad, good):
    found = list(rule([Source.of(path, bad)]))
    assert len(found) == 1
    assert re.match(rf'{re.escape(path)}:\d+: ', found[0])
    assert not list(rule([Source.of(path, good)]))


def test_rules_look_at_every_part(sources):
    # A rule whose pattern of paths matches no file would hold for ever.
    paths = [source.path for source in sources]
    assert {'ffn/volumes/masks.py', 'train.py', 'tests/test_architecture.py'} <= set(paths)
    for package in PACKAGES:
        assert any(path.startswith(f'ffn/{package}/') for path in paths)
    assert [source.path for source in sources if source.is_script] == [f'{s}.py' for s in SCRIPTS]


# Direction of imports.


LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(sys.argv[1], no_cache=True))
"""


def check_contracts(config: Path) -> subprocess.CompletedProcess[str]:
    """Checks the code against the contracts of a configuration of import-linter.

    It replaces the log handlers of its process, so it has one of its own.
    """
    return run_python(ROOT, '-c', LINT, config)


def test_imports_keep_the_contracts():
    done = check_contracts(ROOT / 'pyproject.toml')
    assert done.returncode == 0, done.stdout + done.stderr


def test_contracts_are_broken_by_an_arrow_upwards(tmp_path):
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    # With the two exchanged, utils would have to stand on training.
    swapped = text.replace('"inference | training",', '"@",').replace(
        '"utils",', '"inference | training",'
    )
    config = tmp_path / 'pyproject.toml'
    config.write_text(swapped.replace('"@",', '"utils",'), encoding='utf-8')
    done = check_contracts(config)
    assert done.returncode == 1, done.stderr
    assert 'ffn.training is not allowed to import ffn.utils' in done.stdout


# Files.


def lines_matching(texts: dict[str, str], pattern: re.Pattern) -> list[str]:
    return [
        f'{path}:{number}: {match[0]}'
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_no_path_of_a_machine(tracked_texts):
    assert lines_matching(tracked_texts, MACHINE_PATH) == []


def test_no_host_of_a_package_index(tracked_texts):
    assert lines_matching(tracked_texts, PACKAGE_INDEX) == []


# Assembled here, so that this file keeps the rules as well.
HOME, WORK, INDEX = '/ho' + 'me', '/wo' + 'rk', 'py' + 'pi'


@pytest.mark.parametrize(
    'line', [f'{HOME}/ann/data.h5', f'file://{HOME}', f'"{HOME}/a"', f'={WORK}']
)
def test_path_of_a_machine_is_found(line):
    assert lines_matching({'a.md': f'x\n{line}\n'}, MACHINE_PATH)[0].startswith('a.md:2: /')


@pytest.mark.parametrize('line', ['the /workers/ of a', 'image/work', f'$OUT{HOME}', '/data/x.h5'])
def test_other_paths_are_left_alone(line):
    assert not lines_matching({'a.md': line}, MACHINE_PATH)


@pytest.mark.parametrize('host', [f'{INDEX}.org', f'files.{INDEX}-mirror.lab', 'index' + '-url'])
def test_host_of_a_package_index_is_found(host):
    assert lines_matching({'a.txt': f'\nhttps://{host}/simple'}, PACKAGE_INDEX)
    assert not lines_matching({'a.txt': 'the package index'}, PACKAGE_INDEX)


@pytest.mark.parametrize('name', TOP_LEVEL)
def test_layout(name):
    assert (ROOT / name).exists(), f'{name} is missing'
