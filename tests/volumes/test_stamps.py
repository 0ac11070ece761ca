"""What volumes say of themselves."""

import json

import pytest

from ffn.inference import inference_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.stamps import stamp_of_input


@pytest.mark.parametrize('scheme', ['zarr', 'n5', 'precomputed'])
def test_however_a_request_names_it(tmp_path, scheme):
    driver = {'precomputed': 'neuroglancer_precomputed'}.get(scheme, scheme)
    place = f'{tmp_path}/whole'
    output = OutputSpec(f'{scheme}://{place}', Box(Xyz(0, 0, 0), Xyz(30, 20, 10)), Xyz(16, 16, 16))
    names = [
        output.spec,
        inference_pb2.DecoratedVolume(hdf5=output.spec),
        *(
            inference_pb2.DecoratedVolume(
                tensorstore=json.dumps({'driver': driver, 'kvstore': kvstore})
            )
            for kvstore in ({'driver': 'file', 'path': place}, f'file://{place}')
        ),
    ]
    assert [stamp_of_input(name) for name in names] == [''] * 4
    output.create('of something')
    for name in names:
        with pytest.raises(UserError, match='is not complete'):
            stamp_of_input(name)
    output.finish('of something')
    assert [stamp_of_input(name) for name in names] == ['of something'] * 4
