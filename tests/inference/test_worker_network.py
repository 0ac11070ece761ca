"""Networks of Dask workers."""

from __future__ import annotations

from ffn.inference.worker_network import gpu_of


def test_one_gpu_for_each_local_worker():
    assert [gpu_of(i, '', 4) for i in range(5)] == ['0', '1', '2', '3', '0']
    assert [gpu_of(i, '3,5', 8) for i in range(3)] == ['3', '5', '3']
    assert gpu_of(1, 'GPU-a,GPU-b', 8) == 'GPU-b'
    # Nothing to choose from, or workers that somebody else started.
    assert gpu_of(0, '', 0) is gpu_of(1, '2', 8) is gpu_of('SLURMCluster-1', '', 4) is None
