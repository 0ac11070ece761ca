"""Names in files run nothing: only classes of the kind that is asked for, only from packages that are trusted."""

import sys

import pytest

from ffn.cli import flags, trust_flags
from ffn.cli.absl_flags import expand_flag_files
from ffn.cli.train import Train
from ffn.distributed.local_pools import Processes
from ffn.inference.core import movement
from ffn.inference.seeds import registry
from ffn.inference.seeds.policy import SeedPolicy
from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.plugins import load_class
from tests.calls import call_many, check_one_line

# What importing it would do is seen in sys.modules.
STANDIN = """
from ffn.inference.seeds.policy import SeedPolicy


class Mine(SeedPolicy):
    pass


class Other:
    pass


called = []


def function(*args, **kwargs):
    called.append(args)
"""


@pytest.fixture(autouse=True)
def trusts_nothing_else():
    with trust.only(trust.Trust()):
        yield


@pytest.fixture
def standin(tmp_path, monkeypatch):
    """A package of somebody else's that can be imported."""
    folder = tmp_path / 'standin_lab'
    folder.mkdir()
    (folder / '__init__.py').write_text('')
    (folder / 'seeds.py').write_text(STANDIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield 'standin_lab'
    for name in [name for name in sys.modules if name.startswith('standin_lab')]:
        del sys.modules[name]


def find(name, base=SeedPolicy):
    return load_class(name, '', base, 'seed_policy', lambda: ['PolicyPeaks'])


def test_a_package_that_is_not_allowed_is_not_even_imported(standin):
    with pytest.raises(UserError) as caught:
        find('standin_lab.seeds.Mine')
    assert str(caught.value) == (
        "seed_policy 'standin_lab.seeds.Mine' is not in ffn; if you trust standin_lab, allow it: "
        '--allow_module=standin_lab; known are PolicyPeaks, or package.module.Class'
    )
    assert 'standin_lab' not in sys.modules


@pytest.mark.parametrize('allowed', ['standin_lab', 'standin_lab.seeds'])
def test_an_allowed_package(standin, allowed):
    trust.allow(allowed)
    assert find('standin_lab.seeds.Mine').__module__ == 'standin_lab.seeds'


def test_nothing_but_a_class_of_the_kind_is_used(standin):
    trust.allow('standin_lab')
    for name in ('Other', 'function', 'called', 'SeedPolicy.__init__', 'None', 'Mine '):
        with pytest.raises(
            UserError, match=r'is no subclass of SeedPolicy|does not exist|not in ffn'
        ):
            find(f'standin_lab.seeds.{name}')
    assert sys.modules['standin_lab.seeds'].called == []


@pytest.mark.parametrize('allowed', ['standin', 'standin_lab.see', 'ffn', 'seeds', 'lab'])
def test_similar_names_are_not_allowed_with_it(standin, allowed):
    trust.allow(allowed)
    with pytest.raises(UserError, match='not in ffn'):
        find('standin_lab.seeds.Mine')


@pytest.mark.parametrize(
    'name',
    [
        'os.system', 'ffnx.A', 'ffn..A', '.ffn.A', 'ffn/../os.system', 'ffn.utils.npz.np.load', '..A', '',
        'ffn.inference.runner.Runner', 'ffn.utils.trust.allow', 'subprocess.Popen', 'builtins.object',
    ],
)  # fmt: skip
def test_names_that_no_request_needs(name):
    with pytest.raises(UserError):
        find(name)


def test_the_parts_of_a_combined_policy_are_checked_too(standin):
    args = {'policies': [['PolicyMax', {}], ['standin_lab.seeds.Mine', {}]]}
    with pytest.raises(UserError, match='--allow_module=standin_lab'):
        registry.make_policy(None, 'SequentialPolicies', args)
    args = {'policy_to_reverse': 'standin_lab.seeds.Mine'}
    with pytest.raises(UserError, match='--allow_module=standin_lab'):
        registry.make_policy(None, 'ReverseCoords', args)
    trust.allow('standin_lab')
    assert registry.make_policy(None, 'ReverseCoords', args).index == 0


def test_movement_policies_are_known_by_their_methods(standin):
    trust.allow('standin_lab')
    with pytest.raises(UserError, match='is no subclass of MovementPolicy'):
        movement.make_policy(None, 'standin_lab.seeds.Mine', '', (1, 1, 1), 0, (1, 1, 1))


@pytest.mark.parametrize('name', ['', 'a/b', 'a b', '--x', '.a', 'a.', '1a'])
def test_what_is_allowed_must_be_a_name(name):
    with pytest.raises(UserError, match='expected the name of a package'):
        trust.allow(name)


def test_the_command_line_allows():
    parser = flags.make_parser('try', '')
    parser.parse_args(['--allow_module', 'a', '--allow_module=b.c'])
    assert trust.current().modules == {'a', 'b.c'}
    assert not trust.current().remote
    assert '--allow_module PACKAGE' in parser.format_help()


@pytest.mark.parametrize(
    'line',
    [
        '--allow_module=os',
        '-allow_module=os',
        '--allow_mod=os',
        '--allow_module\nos',
        '--allow_remote',
        '--allow_remote=true',
        '--al',
    ],
)
def test_a_flag_file_cannot_allow(tmp_path, line):
    path = tmp_path / 'flags'
    path.write_text(f'--fov_moves=2\n{line}\n')
    inner = tmp_path / 'inner'
    inner.write_text(f'--flagfile={path}\n')
    for file in (path, inner):
        with pytest.raises(UserError, match='a flag file gives --allow_'):
            expand_flag_files([f'--flagfile={file}'], Train)


def test_other_flags_of_a_file_are_left_alone():
    trust_flags.refuse_in_file(['--fov_moves=2', '', '--learning_rate=1', 'allow_module'])


def test_the_scripts(repository, tmp_path):
    needed = [
        '--input_volume=none.h5:a',
        '--output_volume=out.h5:a',
        '--lom_radius=1,1,1',
        '--thresholds=0.5',
    ]
    (tmp_path / 'flags').write_text('--allow_module=os\n')
    cases = [
        [*needed, '--allow_module=mylab', '--allow_module', 'other'],
        [*needed, '--flagfile=flags'],
        [*needed, '--flagfile=flags', '--allow_module=other'],
        [*needed, '--allow_module=a/b'],
        [*needed, '--flagfile=remote'],
        [*needed, '--flagfile=remote', '--allow_remote'],
    ]
    (tmp_path / 'remote').write_text('--allow_remote\n')
    allowed, *refused, wrong, remote, both = call_many(
        repository, tmp_path, 'compute_partitions', cases
    )
    check_one_line(*allowed, 'no such file: none.h5')
    for result in refused:
        check_one_line(*result, 'a flag file gives --allow_module')
    check_one_line(*wrong, 'expected the name of a package')
    check_one_line(*remote, 'a flag file gives --allow_remote')
    check_one_line(*both, 'no such file: none.h5')


def trusted_modules():
    return trust.current().modules


def test_other_processes_trust_the_same():
    trust.allow('standin_lab')
    assert list(Processes(1).run(trusted_modules, [()])) == [((), frozenset({'standin_lab'}))]
