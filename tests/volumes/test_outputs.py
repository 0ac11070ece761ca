import pytest

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import describe_output

BOX = Box(Xyz(3, 5, 7), Xyz(30, 20, 10))


@pytest.mark.parametrize(
    ('spec', 'voxel_size', 'warned'),
    [
        ('precomputed://out', None, True),
        ('precomputed://out', (8.0, 8.0, 30.0), False),
        ('zarr://out', None, False),
        ('out.h5:labels', None, False),
    ],
)
def test_a_missing_voxel_size_is_complained_about(
    caplog, monkeypatch, tmp_path, spec, voxel_size, warned
):
    monkeypatch.chdir(tmp_path)
    output = describe_output(spec, BOX, Xyz(4, 5, 6), voxel_size, 'give one with --size')
    assert output.voxel_size == (voxel_size or (1.0, 1.0, 1.0))
    assert str(tmp_path) in output.spec
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f'{spec} gets voxels of 1,1,1 nm; give one with --size'] * warned
