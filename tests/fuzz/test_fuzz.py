"""Mutated files of every kind: whatever was done to one, it is read as it was or refused in one line."""

import itertools

import pytest

from tests.fuzz.case import DEFECTS, Outcome
from tests.fuzz.run import MODULES, Task, find_loaders, format_table, run_tasks

CASES = 2000


def test_no_mutated_file_does_harm():
    loaders = [(m, i, one) for m in MODULES for i, one in enumerate(find_loaders(m))]
    ends = [CASES * n // len(loaders) for n in range(len(loaders) + 1)]
    tasks = [
        Task(module, index, 0, range(end - begin))
        for (module, index, _), (begin, end) in zip(loaders, itertools.pairwise(ends), strict=True)
    ]
    found = run_tasks(tasks)
    named = [(one.name, counts) for (_, _, one), counts in zip(loaders, found, strict=True)]
    defects = {name: counts.defects for name, counts in named if counts.defects}
    assert not defects, format_table(named)
    assert sum(counts.outcomes.total() for counts in found) == CASES
    refused = sum(counts.outcomes[Outcome.REFUSED] for counts in found)
    assert refused > CASES / 2  # the mutations are such that there is something to refuse


@pytest.mark.parametrize(
    ('behaviour', 'outcome'),
    [
        ('foreign', Outcome.FOREIGN),
        ('crash', Outcome.CRASH),
        ('hang', Outcome.HANG),
        ('memory', Outcome.MEMORY),
        ('wrong', Outcome.WRONG),
        ('refused', Outcome.REFUSED),
        ('same', Outcome.SAME),
        ('other', Outcome.OTHER),
    ],
)
def test_what_a_loader_does_wrong_is_noticed(behaviour, outcome, monkeypatch):
    """By loaders that each do one thing; see `tests.fuzz.stand_ins`."""
    monkeypatch.setattr('tests.fuzz.run.LIMIT_S', 1.0)
    names = [one.name for one in find_loaders('stand_ins')]
    (counts,) = run_tasks([Task('stand_ins', names.index(behaviour), 0, range(2))])
    assert counts.outcomes == {outcome: 2}
    assert bool(counts.defects) == (outcome in DEFECTS)
