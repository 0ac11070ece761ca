"""requirements-lock.txt, from which `make install` and CI take the releases of all packages."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ('3.11', '3.12', '3.13')


@pytest.fixture(scope='module')
def lock(repository) -> str:
    return (repository / 'requirements-lock.txt').read_text()


@pytest.fixture(scope='module')
def locked(lock) -> list[Requirement]:
    """Each package, with one release and a marker."""
    lines = re.sub(r'\\\n\s+--hash=\S+', '', lock).splitlines()
    return [Requirement(line) for line in lines if not line.startswith('#')]


@pytest.fixture(scope='module')
def wanted(repository) -> list[Requirement]:
    """What the project and its tests ask for."""
    lines = (repository / 'requirements.txt').read_text().splitlines()
    texts = [line.partition('#')[0].strip() for line in lines]
    project = tomllib.loads((repository / 'pyproject.toml').read_text())['project']
    texts += project['optional-dependencies']['dev']
    return [Requirement(text) for text in texts if text]


def releases(locked, python) -> dict[str, str]:
    """The release of each package on one Python."""
    environment = {**default_environment(), 'python_version': python}
    environment['python_full_version'] = f'{python}.0'
    found = [p for p in locked if p.marker is None or p.marker.evaluate(environment)]
    names = [canonicalize_name(package.name) for package in found]
    assert len(names) == len(set(names))
    return {
        name: str(package.specifier).removeprefix('==')
        for name, package in zip(names, found, strict=True)
    }


@pytest.mark.parametrize('python', PYTHONS)
def test_it_has_what_the_project_asks_for(locked, wanted, python):
    found = releases(locked, python)
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate():
            release = found.get(canonicalize_name(requirement.name))
            assert release is not None, f'{requirement.name}: run make lock'
            assert requirement.specifier.contains(release), f'{requirement}: run make lock'


def test_every_release_has_hashes_and_no_address(lock, locked):
    assert len(re.findall(r'==\S+.*\\\n +--hash=sha256:[0-9a-f]{64}', lock)) == len(locked)
    assert '://' not in lock
    assert not re.search(r'^-', lock, re.M)  # options, which may name an index
