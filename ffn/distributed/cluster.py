"""A Dask cluster: processes of this machine, a running scheduler, or jobs of a batch system.

Needs the extra [cluster].
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from ffn.distributed import batch_end
from ffn.distributed.watch import watched
from ffn.utils.errors import UserError, reason
from ffn.utils.signals import exit_on_sigterm, keep_ctrl_c
from ffn.utils.startup import verbosity_of_workers
from ffn.utils.texts import parse_object

if TYPE_CHECKING:
    from distributed import Client

_LOOPBACK = '127.0.0.1'
_ADDRESS = re.compile(r'[a-z]+://\S+')
_BATCH_SYSTEMS = {
    'slurm': 'SLURMCluster',
    'lsf': 'LSFCluster',
    'pbs': 'PBSCluster',
    'sge': 'SGECluster',
    'htcondor': 'HTCondorCluster',
    'oar': 'OARCluster',
}
SCHEDULER_HELP = (
    "'none' for this process; 'local' for processes of this machine; an address such as "
    'tcp://HOST:8786; the file that `dask scheduler --scheduler-file` writes; or a batch system that '
    f'dask-jobqueue knows ({", ".join(_BATCH_SYSTEMS)})'
)


@contextlib.contextmanager
def open_client(scheduler: str, workers: int = 0, threads: int = 1) -> Iterator[Client]:
    """Connects to the cluster that --scheduler names, or starts one for as long as the context lasts.

    Args:
      scheduler: see SCHEDULER_HELP; not 'none'.
      workers: processes for local, jobs for a batch system; 0: one per GPU, at least one.
      threads: tasks that a process runs concurrently, for local.

    Raises:
      UserError: Dask is not installed, or there is no such scheduler; meanwhile, that no worker will come.
    """
    try:
        import distributed
    except ImportError as error:
        raise UserError(
            f'--scheduler {scheduler} needs Dask: pip install "flood-filling-networks[cluster]"; '
            'or --scheduler none'
        ) from error
    with exit_on_sigterm(), contextlib.ExitStack() as stack:
        if scheduler == 'local':
            from ffn.distributed.ephemeral import EphemeralWorkerPlugin

            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers or max(count_gpus(), 1),
                    threads_per_worker=threads,
                    env=memory_settings(workers, count_gpus()),
                    memory_limit=0,
                    silence_logs='ERROR',
                    host=_LOOPBACK,
                    dashboard_address=_dashboard_address(),
                )
            )
            client = stack.enter_context(distributed.Client(cluster))
            client.register_plugin(EphemeralWorkerPlugin(verbosity_of_workers()))
        elif scheduler in _BATCH_SYSTEMS:
            cluster = stack.enter_context(_open_batch_system(scheduler))
            # Once it is known that there is dask-jobqueue.
            from ffn.distributed.batch_jobs import Jobs

            client = stack.enter_context(distributed.Client(cluster))
            jobs = Jobs(cluster, scheduler, workers or 1)
            stack.enter_context(watched(client, jobs.look))
        else:
            client = stack.enter_context(_connect(scheduler, workers))
            advice = f'start some with dask worker {client.scheduler.address}'
            stack.enter_context(watched(client, lambda: advice))
        logging.info("Dask's dashboard: %s", client.dashboard_link)
        yield client


def memory_settings(workers: int, gpus: int) -> dict[str, str]:
    """Environment of processes that share GPUs: each takes memory as it needs it, not the first all of it.

    Args:
      workers: number of processes.
      gpus: number of GPUs of this machine.
    """
    if not 0 < gpus < workers:
        return {}
    settings = {'TF_FORCE_GPU_ALLOW_GROWTH': 'true', 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _dashboard_address() -> str:
    """Where the dashboard of 'local' listens: on this machine only, unless FFN_DASHBOARD names a HOST:PORT."""
    host, _, port = os.environ.get('FFN_DASHBOARD', ':8787').rpartition(':')
    return f'{host or _LOOPBACK}:{port}'


@contextlib.contextmanager
def _open_batch_system(system: str) -> Iterator[Any]:
    """Opens the cluster of a batch system, whose jobs dask-jobqueue's configuration describes, without any job.

    Where Dask's configuration requires encryption, connections use TLS, with the certificates that it names or
    else with temporary ones.
    """
    try:
        with keep_ctrl_c():  # dask-jobqueue would have it end this process as if all were done
            import dask_jobqueue

            from ffn.distributed.batch_jobs import with_mark
    except ImportError as error:
        raise UserError(
            f'--scheduler {system} needs dask-jobqueue: pip install "flood-filling-networks[cluster]"'
        ) from error
    except ValueError as error:  # release 0.9.0 sets that handler
        raise UserError(
            f'--scheduler {system}: dask-jobqueue can be loaded in the main thread only; import dask_jobqueue there before'
        ) from error
    kind = getattr(dask_jobqueue, _BATCH_SYSTEMS[system])
    if shutil.which(submit := kind.job_cls.submit_command) is None:
        raise UserError(f'--scheduler {system}: there is no {submit} on this machine')
    with contextlib.ExitStack() as stack:
        kind_of_job = with_mark(kind.job_cls, stack.enter_context(_folder_of_marks(system)))
        cluster = _configured(system, kind, kind_of_job)
        stack.callback(batch_end.close, cluster, system)
        yield cluster


@contextlib.contextmanager
def _folder_of_marks(system: str) -> Iterator[Path]:
    """Makes a folder beside the logs of jobs: nodes see it there, and it may be written to."""
    import dask

    logs = dask.config.get(f'jobqueue.{system}.log-directory', None) or '.'
    try:
        Path(logs).mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix='.ended-', dir=logs, ignore_cleanup_errors=True)
        path = Path(folder.name).absolute()
    except OSError as error:
        raise UserError(
            f'--scheduler {system}: jobs cannot write to {logs} ({reason(error)}); set log-directory, in the file '
            'that DASK_CONFIG names, to a folder that they share with this machine'
        ) from error
    with folder:
        yield path


def _configured(system: str, kind: Any, kind_of_job: Any) -> Any:
    try:
        return kind(job_cls=kind_of_job, **_encryption())
    except ImportError as error:
        raise UserError(
            f'--scheduler {system}: encryption without certificates of your own needs the package cryptography: '
            'pip install cryptography'
        ) from error
    except ValueError as error:
        needs = ' '.join(str(error).split())
        raise UserError(
            f'--scheduler {system}: {needs}; DASK_CONFIG names the file that says what a job asks for, '
            'as configs/jobqueue.yaml does'
        ) from error


def _encryption() -> dict[str, Any]:
    """Arguments of a dask-jobqueue cluster that make it encrypt what Dask's configuration says must be."""
    import dask
    import distributed

    if not dask.config.get('distributed.comm.require-encryption', None):
        return {}
    named = dask.config.get('distributed.comm.tls.ca-file', None)
    return {'protocol': 'tls://', 'security': distributed.Security() if named else True}


def count_gpus() -> int:
    """Counts the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all that NVIDIA's driver lists."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        # What follows a number below 0 is not used.
        named = [device.strip() for device in visible.split(',')]
        return len(list(itertools.takewhile(lambda d: d and not d.startswith('-'), named)))
    return len(list(Path('/proc/driver/nvidia/gpus').glob('*')))


def _connect(scheduler: str, workers: int) -> Client:
    import distributed

    if '://' not in scheduler and not Path(scheduler).is_file():
        raise UserError(
            f'--scheduler {scheduler} is neither a file nor known; expected {SCHEDULER_HELP}'
        )
    if workers:
        raise UserError(
            f'--workers {workers} is for schedulers that are started here; that of --scheduler {scheduler} has workers '
            'already'
        )
    address = scheduler if '://' in scheduler else read_scheduler_file(scheduler)
    try:
        return distributed.Client(address)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'--scheduler {scheduler} does not answer: {error}') from error


def read_scheduler_file(path: str | Path) -> str:
    """Reads the address in the file that `dask scheduler --scheduler-file` writes.

    Raises:
      UserError: the file is damaged, or another one.
    """
    address = parse_object(Path(path).read_bytes(), f'--scheduler {path}').get('address')
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise UserError(
            f'--scheduler {path}: its address is {address!r}; expected one such as tcp://HOST:PORT, as '
            '`dask scheduler --scheduler-file` writes it; start the scheduler again'
        )
    return address
