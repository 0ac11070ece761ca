"""Where work that does not fit into one process is done: Dask workers here or on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from ffn.utils.errors import UserError

if TYPE_CHECKING:
    from dask.distributed import Client

SCHEDULER_HELP = (
    "'none': one after the other in this process; 'local': Dask workers on this machine; or a Dask "
    "scheduler's address, such as tcp://host:8786, or its scheduler file"
)


@contextlib.contextmanager
def connected(scheduler: str, workers: int) -> Iterator[Client]:
    """Connects to a Dask scheduler, or starts one on this machine for as long as the context lasts.

    Args:
      scheduler: 'local', an address or a file, see SCHEDULER_HELP.
      workers: processes of a local one, each with one thread.

    Raises:
      UserError: Dask is not installed, or there is no such scheduler.
    """
    try:
        from dask import distributed
    except ImportError as error:
        raise UserError(
            f'--scheduler {scheduler} needs Dask; install flood-filling-networks[cluster], or use '
            '--scheduler none'
        ) from error
    with contextlib.ExitStack() as stack:
        if scheduler == 'local':
            cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1)
            client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
        else:
            where = (
                {'scheduler_file': scheduler}
                if Path(scheduler).is_file()
                else {'address': scheduler}
            )
            try:
                client = stack.enter_context(distributed.Client(**where))
            except (OSError, ValueError) as error:
                raise UserError(
                    f'no Dask scheduler answers at {scheduler}: {error}; expected {SCHEDULER_HELP}'
                ) from error
        logging.info('Dask dashboard: %s', client.dashboard_link)
        yield client
