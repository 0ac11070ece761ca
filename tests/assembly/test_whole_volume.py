import pytest

from ffn.assembly.config import AssemblyConfig, OutputConfig, TilingConfig
from ffn.assembly.whole_volume import NetworkInfo, plan_assembly
from ffn.inference.request import read_config
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

REQUEST = """
image { hdf5: "image.h5:raw" }
image_mean: 128
image_stddev: 33
seed_policy: "PolicyPeaks"
model_checkpoint_path: "nowhere/model.ckpt-1"
model_name: "convstack_3d.ConvStack3DFFNModel"
model_args: "{\\"depth\\": 2, \\"fov_size\\": [5, 7, 9], \\"deltas\\": [1, 2, 3]}"
segmentation_output_dir: "results"
inference_options {
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  segment_threshold: 0.6
}
"""
NETWORK = NetworkInfo(Xyz(9, 7, 5), Xyz(3, 2, 1), 'float32', Box(Xyz(0, 0, 0), Xyz(100, 80, 60)))


def config(voxel_size=None, output='precomputed://whole'):
    return AssemblyConfig(
        TilingConfig(Xyz(50, 40, 30), Xyz(10, 10, 10)), OutputConfig(output, voxel_size=voxel_size)
    )


@pytest.mark.parametrize(
    ('in_request', 'flag', 'written'),
    [
        ('voxel_size { x: 8 y: 9 z: 30 }', None, (8, 9, 30)),
        ('voxel_size { x: 8 y: 9 z: 30 }', (4.0, 5.0, 6.0), (4, 5, 6)),
        ('', (4.0, 5.0, 6.0), (4, 5, 6)),
    ],
)
def test_the_voxel_size_of_the_flag_counts_before_that_of_the_request(
    caplog, in_request, flag, written
):
    assembly = plan_assembly(read_config(REQUEST + in_request), NETWORK, None, config(flag))
    assert assembly.output.voxel_size == written
    contradiction = (
        'x,y,z 4,5,6 nm (--voxel_size), but x,y,z 8,9,30 nm (the request or its training)'
    )
    assert (contradiction in caplog.text) == bool(in_request and flag)


def test_no_precomputed_volume_is_planned_without_a_voxel_size():
    with pytest.raises(
        UserError, match=r'whole stores .*give --voxel_size X,Y,Z in nanometres, or'
    ):
        plan_assembly(read_config(REQUEST), NETWORK, None, config())
    made = plan_assembly(read_config(REQUEST), NETWORK, None, config(output='zarr://whole'))
    assert made.output.voxel_size is None
    assert 'voxel_size_xyz' not in made.as_dict()


@pytest.mark.parametrize(('edge', 'fits'), [((4, 4, 4), True), ((4, 5, 4), False)])
def test_subvolumes_share_what_the_network_predicts(edge, fits):
    network = NETWORK._replace(edge=Xyz(*edge))
    if fits:
        plan_assembly(read_config(REQUEST), network, None, config(output='zarr://whole'))
        return
    with pytest.raises(UserError, match=r'outermost x,y,z 4,5,4 .*more than x,y,z 8,10,8'):
        plan_assembly(read_config(REQUEST), network, None, config(output='zarr://whole'))
