"""The sum of many tables of which each holds some of the rows, such as counts by pairs of ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Table = TypeVar('Table')


class RunningSum(Generic[Table]):
    """Tables that are added up whenever those that came since hold as many rows as the sum itself.

    All work together is then in proportion to the rows that are given, times the logarithm of their number, and
    the rows in memory are at most twice those of the sum, or `least`.
    """

    def __init__(
        self,
        add_up: Callable[[list[Table]], Table],
        count: Callable[[Table], int],
        least: int,
        tables: Iterable[Table] = (),
    ):
        """Begins with tables, if there are any.

        Args:
          add_up: makes one table of several.
          count: number of rows of a table.
          least: fewer rows than this are left as they come.
          tables: what is summed already.
        """
        self._add_up, self._count, self._least = add_up, count, least
        self._tables = list(tables)
        self._rows = sum(map(count, self._tables))
        self._limit = least

    def add(self, table: Table) -> None:
        """Takes one more table."""
        self._tables.append(table)
        self._rows += self._count(table)
        if self._rows > self._limit:
            self._tables = [self.total()]
            self._rows = self._count(self._tables[0])
            self._limit = max(self._least, 2 * self._rows)

    def total(self) -> Table:
        """Returns the sum; there must be a table."""
        return self._add_up(self._tables)
