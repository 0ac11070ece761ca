"""The wheel and the sdist: what they contain, and that the wheel works away from the checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ffn import __version__
from tests.calls import run_python

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2]))
"""
# Of a working checkout, which git ignores.
IGNORED = (
    'demo/train.h5',
    'data/em.h5',
    'doc/api/ffn.md',
    'models/large.weights.h5',
    'models/fib25_small.int8-0.json',
    'notebooks/.ipynb_checkpoints/ffn_inference_demo.ipynb',
    'tests/__pycache__/calls.cpython-311.pyc',
    '.venv/a.py',
)


@pytest.fixture(scope='module')
def wheel(repository, tmp_path_factory) -> Path:
    """A wheel built from a copy of the checkout, without network."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(repository / 'ffn', source / 'ffn', ignore=ignored)
    for name in ('pyproject.toml', 'requirements.txt', 'README.md', 'LICENSE', 'train.py'):
        shutil.copy(repository / name, source)
    (source / 'tests').mkdir()
    (source / 'tests' / '__init__.py').touch()
    return build('wheel', source, folder)


def build(kind: str, source: Path, folder: Path) -> Path:
    """Builds a 'wheel' or an 'sdist' into a folder; returns its path."""
    if int(metadata.version('setuptools').split('.')[0]) < 77:
        pytest.skip(f'building a {kind} needs setuptools 77 or newer; the extra [dev] brings it')
    done = run_python(source, '-c', BUILD, kind, folder)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


# Modules that are named unlike their package, or come with one of them.
PACKAGES = {
    'PIL': 'pillow', 'absl': 'absl-py', 'cc3d': 'connected-components-3d', 'google': 'protobuf', 'skimage': 'scikit-image',
    'sklearn': 'scikit-learn', 'markupsafe': 'jinja2', 'ml_dtypes': 'tensorstore', 'tornado': 'neuroglancer',
}  # fmt: skip


def test_what_is_imported_is_asked_for(repository):
    project = tomllib.loads((repository / 'pyproject.toml').read_text())['project']
    asked = [(repository / 'requirements.txt').read_text().splitlines()]
    asked += project['optional-dependencies'].values()
    texts = [line.partition('#')[0].strip() for part in asked for line in part]
    known = {canonicalize_name(Requirement(text).name) for text in texts if text}
    imported = set()
    for path in (repository / 'ffn').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'importlib.import_module':
                imported |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    modules = {name.partition('.')[0] for name in imported}
    modules -= {*sys.stdlib_module_names, 'ffn', '_typeshed'}
    packages = {canonicalize_name(PACKAGES.get(name, name)) for name in modules}
    assert not packages - known


def test_the_sdist_is_what_git_has(repository, tmp_path):
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=repository, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip('not a git checkout')
    tracked = {name for name in listed.stdout.split('\0') if (repository / name).is_file()}
    source = tmp_path / 'source'
    for name in (*tracked, *IGNORED):  # empty, which takes less time
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    for name in ('pyproject.toml', 'MANIFEST.in', 'requirements.txt', 'ffn/__init__.py'):
        shutil.copy(repository / name, source / name)
    with tarfile.open(build('sdist', source, tmp_path)) as archive:
        packed = {m.name.partition('/')[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in packed if '.egg-info/' in name} | {'PKG-INFO', 'setup.cfg'}
    assert packed - made == tracked


def test_it_contains_the_package_and_nothing_else(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if '.dist-info/' not in name}
    root = repository / 'ffn'
    kinds = ('.py', '.pyi', '.proto', '.binpb', '.typed')
    expected = {
        f'ffn/{path.relative_to(root).as_posix()}'
        for path in root.rglob('*')
        if path.suffix in kinds or path.name == 'py.typed'
    }
    assert packed == expected
    assert {'ffn/utils/protos.binpb', 'ffn/py.typed', 'ffn/inference/inference_pb2.pyi'} <= packed


def test_its_metadata(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            name.partition('.dist-info/')[2]: archive.read(name).decode()
            for name in archive.namelist()
            if '.dist-info/' in name
        }
    assert 'ffn = ffn.cli.main:run' in texts['entry_points.txt']
    assert f'\nVersion: {__version__}\n' in texts['METADATA']
    needed = [line for line in texts['METADATA'].splitlines() if line.startswith('Requires-Dist')]
    required = [line for line in needed if 'extra ==' not in line]
    lines = (repository / 'requirements.txt').read_text().splitlines()
    assert len(required) == len([line for line in lines if line.split('#')[0].strip()])
    project = tomllib.loads((repository / 'pyproject.toml').read_text())['project']
    assert texts['METADATA'].count('Provides-Extra') == len(project['optional-dependencies'])
    assert any(name.endswith('LICENSE') for name in texts)


def test_it_runs_where_no_checkout_is(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'installed')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')}

    def call(*arguments):
        done = run_python(tmp_path, '-m', 'ffn', *arguments, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call('--version') == f'ffn {__version__}\n'
    assert '--bounding_box' in call('infer', '--help')
    call('synthetic', '--size=16,16,16', '--output=sample.h5')
    assert (tmp_path / 'sample.h5').exists()
