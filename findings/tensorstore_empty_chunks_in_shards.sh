#!/usr/bin/env bash
# tensorstore 0.1.86, NumPy 2.4.6, Python 3.11
#
# `store_data_equal_to_fill_value` stores chunks that hold nothing but the fill value. In a neuroglancer_precomputed
# volume without shards it does; in one with shards it is accepted and without effect: such chunks are not
# in the shard. CloudVolume 12.15.2, which fails on missing chunks by default, therefore reads the first and not the second.
#
# Output seen:
#   unsharded: 8 of 8 chunks are stored
#   sharded: 1 of 8 chunks are stored
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorstore==0.1.86 numpy==2.4.6
cd "$folder" && venv/bin/python - <<'PYTHON'
import os
import numpy as np
import tensorstore as ts

values = np.zeros((8, 8, 8, 1), np.uint64)
values[0, 0, 0] = 1  # the other 7 chunks are empty
sharding = {'@type': 'neuroglancer_uint64_sharded_v1', 'hash': 'identity', 'preshift_bits': 3, 'minishard_bits': 0, 'shard_bits': 0}
stored = {}
for name, more in (('unsharded', {}), ('sharded', {'sharding': sharding})):
    path = f'{os.getcwd()}/{name}'
    ts.open({'driver': 'neuroglancer_precomputed', 'kvstore': f'file://{path}',
             'store_data_equal_to_fill_value': True,
             'scale_metadata': {'key': 'scale', 'size': [8, 8, 8], 'resolution': [8, 8, 8], 'chunk_size': [4, 4, 4],
                                'encoding': 'raw', **more},
             'multiscale_metadata': {'type': 'segmentation', 'data_type': 'uint64', 'num_channels': 1}},
            create=True).result().write(values).result()
    stored[name] = len(os.listdir(f'{path}/scale'))
shard = ts.KvStore.open({'driver': 'neuroglancer_uint64_sharded', 'metadata': sharding,
                         'base': f'file://{os.getcwd()}/sharded/scale/'}).result()
states = [shard.read(chunk.to_bytes(8, 'big')).result().state for chunk in range(8)]
stored['sharded'] = states.count('value')
for name, count in stored.items():
    print(f'{name}: {count} of 8 chunks are stored')
assert stored == {'unsharded': 8, 'sharded': 1}, 'the behaviour has changed'
PYTHON
