"""The messages' names, numbers and types (the wire contract), and both ends of protobuf's range."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from packaging.requirements import Requirement

from ffn.inference import consensus_pb2, inference_pb2, resegmentation_pb2
from ffn.utils import bounding_box_pb2, protos, vector_pb2
from ffn.utils.errors import UserError
from tests.conftest import ROOT

MODULES = (vector_pb2, bounding_box_pb2, inference_pb2, consensus_pb2, resegmentation_pb2)

# message: fields; `*` is repeated, what has no type is an int32, and Vector3j is ffn.proto's.
CONTRACT = """
Vector2d: double x=1 y=2
Vector2i: x=1 y=2
Vector3d: double x=1 y=2 z=3
Vector3f: float x=1 y=2 z=3
Vector3j: int64 x=1 y=2 z=3
Vector2dList: *Vector2d vectors=1
Vector2iList: *Vector2i vectors=1
Vector3dList: *Vector3d vectors=1
Vector3fList: *Vector3f vectors=1
Vector3jList: *Vector3j vectors=1

BoundingBox: Vector3j start=1 size=2, string description=3, uint64 object_label=4
BoundingBoxes: *BoundingBox box=1

DecoratedVolume: string volinfo=1 hdf5=3 tensorstore=4 decorator_specs=2
MaskChannelConfig: channel=1, float min_value=2 max_value=3, bool invert=4, *uint64 values=5
ImageMaskOptions: *MaskChannelConfig channels=1
VolumeMaskOptions: DecoratedVolume mask=1, *MaskChannelConfig channels=2
CoordinateExpressionOptions: string expression=1
MaskConfig: VolumeMaskOptions volume=1, ImageMaskOptions image=2,
  CoordinateExpressionOptions coordinate_expression=3, bool invert=4
MaskConfigs: *MaskConfig masks=1
SegmentationSource: string directory=1, float threshold=2, bool split_cc=3, min_size=4,
  MaskConfigs mask=5
InferenceOptions: float init_activation=1 pad_value=2 move_threshold=3 disco_seed_threshold=5,
  Vector3j min_boundary_dist=6, float segment_threshold=7, min_segment_size=8
AlignmentOptions: AlignType type=1, bool save_raw=6
InferenceRequest: DecoratedVolume image=24 shift_mask=6 init_segmentation=25,
  float image_mean=2 image_stddev=3, string reference_histogram=4 movement_policy_name=9
  movement_policy_args=10 model_name=11 model_args=12 model_checkpoint_path=13
  segmentation_output_dir=15 seed_policy=17 seed_policy_args=19,
  *MaskConfig masks=5 histogram_masks=26 seed_masks=30, InferenceOptions inference_options=14,
  shift_mask_scale=7 shift_mask_threshold=8 checkpoint_interval=16 batch_size=27
  concurrent_requests=28, AlignmentOptions alignment_options=20, BoundingBox shift_mask_fov=22
ResegmentationPoint: uint64 id_a=1 id_b=2, Vector3j point=3
ResegmentationRequest: InferenceRequest inference=1, *ResegmentationPoint points=2,
  Vector3j radius=5 exclusion_radius=9 init_exclusion_radius=11 analysis_radius=13,
  string output_directory=6, subdir_digits=7 max_retry_iters=8,
  float segment_recovery_fraction=10, bool terminate_early=12
CounterValue: string name=1, int64 value=2
TaskCounters: *CounterValue counters=1, Vector3j point=2, string filename=3

ConsensusRequest: SegmentationSource segmentation1=1 segmentation2=2,
  string segmentation_output_dir=3, ConsensusType type=4, split_min_size=7

OverlapInfo: num_overlapping=1 num_original=2
EndpointResegmentationResult: uint64 id=1, Vector3j start=2 segmentation_radius=6, num_voxels=3,
  map<uint64,OverlapInfo> overlaps=4, OverlapInfo source=5, string tag=7
PairResegmentationResult: Vector3j point=1 segmentation_radius=4, uint64 id_a=2 id_b=3,
  string tag=5, EvalResult eval=6
SegmentResult: Vector3j origin=1, num_voxels=2 deleted_voxels=3,
  float segment_a_consistency=4 segment_b_consistency=5 max_edt=6
EvalResult: Vector3j radius=1, float iou=2 max_edt_a=5 max_edt_b=6, SegmentResult from_a=3 from_b=4,
  num_voxels_a=7 num_voxels_b=8
"""

Fields = dict[str, set[str]]
"""{message: {'type name=number'}}, a type with * where repeated."""


def contract() -> list[Fields]:
    """The table above, one dictionary per file."""
    files = []
    for block in CONTRACT.strip().split('\n\n'):
        files.append({})
        for line in block.replace('\n ', '').splitlines():
            name, groups = line.split(': ')
            fields = files[-1][name] = set()
            for group in groups.split(', '):
                *kind, words = re.fullmatch(r'(?:([\w*<>,]+) )?((?:\w+=\d+ ?)+)', group).groups()
                fields |= {f'{kind[0] or "int32"} {word}' for word in words.split()}
    return files


def described(module) -> Fields:
    """What the compiled descriptors of a module hold."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return {
        message.name: {
            f'{_type(field, message)} {field.name}={field.number}' for field in message.field
        }
        for message in file.message_type
    }


def _type(field, message) -> str:
    for entry in message.nested_type:
        if entry.options.map_entry and field.type_name.endswith(f'.{entry.name}'):
            return f'map<{",".join(_type(part, entry) for part in entry.field)}>'
    kind = descriptor_pb2.FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()
    kind = field.type_name.rpartition('.')[2] or kind
    return '*' * (field.label == field.LABEL_REPEATED) + kind


def written(text: str) -> Fields:
    """What the text of a .proto file says; a simple reading that fits this project's files."""
    found: Fields = {}
    text = re.sub(r'//.*|reserved .*', '', text)
    for match in re.finditer(
        r'^message (\w+)|(?:(optional|repeated) )?(map<.*>|[\w.]+) (\w+) = (\d+)\b', text, re.M
    ):
        message, label, kind, name, number = match.groups()
        if message:
            fields = found[message] = set()
        elif kind.startswith('map') or re.search(r'[a-z]', name):  # else a value of an enum
            kind = re.sub(r'[\w.]+\.', '', kind).replace(' ', '')
            fields.add(f'{"*" * (label == "repeated")}{kind} {name}={number}')
    return found


def _number(field: str) -> int:
    """Fields from 101 are this project's own."""
    return int(field.rpartition('=')[2])


@pytest.mark.parametrize(('module', 'expected'), [*zip(MODULES, contract(), strict=True)])
def test_fields(module, expected):
    published = {
        m: {f for f in fields if _number(f) <= 100} for m, fields in described(module).items()
    }
    assert published == expected
    assert all(hasattr(module, name) for name in expected)
    text = ROOT.joinpath(module.DESCRIPTOR.name).read_text()
    assert written(text) == described(module)


def test_additions():
    """Requests in results hold them; their numbers stay as well."""
    added = {
        m: {f for f in fields if _number(f) > 100}
        for module in MODULES
        for m, fields in described(module).items()
    }
    assert {m: fields for m, fields in added.items() if fields} == {
        'DecoratedVolume': {'Vector3j downsample=101', 'Vector3j upsample=102'},
        'InferenceOptions': {
            'int32 max_object_steps=101',
            'int64 max_object_voxels=102',
            'float prefilled_join_fraction=103',
            'int32 prefilled_gap=104',
        },
        'InferenceRequest': {
            'Vector3f voxel_size=101',
            'string precision=102',
            'bool use_ema=103',
            'bool histogram_per_subvolume=104',
            '*float int8_ranges=105',
        },
    }


def test_every_proto_file_has_a_module():
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('ffn/*/*.proto')}
    assert files == {module.DESCRIPTOR.name for module in MODULES}
    assert all((ROOT / file).with_name(f'{Path(file).stem}_pb2.py').exists() for file in files)


def test_packages_and_syntax():
    for module in MODULES:
        package = 'ffn.proto' if module in (vector_pb2, bounding_box_pb2) else 'ffn'
        assert module.DESCRIPTOR.package == package
        text = ROOT.joinpath(module.DESCRIPTOR.name).read_text()
        assert 'syntax = "proto2";' in text
        assert f'package {package};' in text


def test_oneofs():
    volume = inference_pb2.DecoratedVolume(volinfo='a', decorator_specs='b')
    assert volume.WhichOneof('volume_path') == 'volinfo'
    for name in ('hdf5', 'tensorstore'):
        setattr(volume, name, 'c')
        assert volume.WhichOneof('volume_path') == name
        assert not volume.HasField('volinfo')
    mask = inference_pb2.MaskConfig(invert=True)
    assert mask.WhichOneof('source') is None
    for name in ('volume', 'image', 'coordinate_expression'):
        getattr(mask, name).SetInParent()
        assert mask.WhichOneof('source') == name


def test_defaults():
    request = inference_pb2.InferenceRequest()
    assert (request.batch_size, request.concurrent_requests) == (1, 1)
    assert not request.HasField('batch_size')
    assert request.alignment_options.type == inference_pb2.AlignmentOptions.NO_ALIGNMENT
    assert not request.HasField('alignment_options')
    assert request.inference_options.disco_seed_threshold == 0
    assert inference_pb2.ResegmentationRequest().max_retry_iters == 1
    assert consensus_pb2.ConsensusRequest().type == consensus_pb2.ConsensusRequest.CONSENSUS_SPLIT


def test_enum_values():
    alignment = inference_pb2.AlignmentOptions
    assert (alignment.UNKNOWN_ALIGNMENT, alignment.NO_ALIGNMENT) == (0, 1)
    assert alignment.AlignType.items() == [('UNKNOWN_ALIGNMENT', 0), ('NO_ALIGNMENT', 1)]
    assert alignment.AlignType.Value('NO_ALIGNMENT') == 1
    consensus = consensus_pb2.ConsensusRequest
    assert consensus.CONSENSUS_SPLIT == 2
    assert consensus.ConsensusType.items() == [('CONSENSUS_SPLIT', 2)]


@pytest.mark.parametrize(('message', 'number'), [('InferenceOptions', 4), ('InferenceRequest', 18)])
def test_reserved_numbers(message, number):
    proto = descriptor_pb2.DescriptorProto()
    getattr(inference_pb2, message).DESCRIPTOR.CopyToProto(proto)
    assert [(r.start, r.end) for r in proto.reserved_range] == [(number, number + 1)]


def test_bytes_on_the_wire():
    # Field 27 as varint 4; field 22 holding start (field 1) with x=1 and y=-1.
    start = b'\x08\x01' + b'\x10' + b'\xff' * 9 + b'\x01'
    box = b'\x0a' + bytes([len(start)]) + start
    data = b'\xd8\x01\x04' + b'\xb2\x01' + bytes([len(box)]) + box
    request = inference_pb2.InferenceRequest.FromString(data)
    assert request.batch_size == 4
    assert (request.shift_mask_fov.start.x, request.shift_mask_fov.start.y) == (1, -1)
    assert request.SerializeToString(deterministic=True) == b'\xb2\x01' + data[5:] + data[:3]


SAMPLE = ROOT / 'configs' / 'inference_training_sample2.pbtxt'


def test_sample_request():
    request = protos.read_text(SAMPLE, inference_pb2.InferenceRequest())
    assert request.image.hdf5.endswith('.h5:raw')
    assert (request.image_mean, request.image_stddev) == (128, 33)
    assert request.model_name == 'convstack_3d.ConvStack3DFFNModel'
    assert request.inference_options.min_boundary_dist == vector_pb2.Vector3j(x=1, y=1, z=1)
    assert inference_pb2.InferenceRequest.FromString(request.SerializeToString()) == request


def test_text_fills_in_what_it_names():
    request = inference_pb2.InferenceRequest(batch_size=8, image_mean=1)
    assert protos.parse_text('image_mean: 2 masks {}', request, 'override') is request
    assert (request.batch_size, request.image_mean, len(request.masks)) == (8, 2, 1)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('image_mean: 1\nimage_average: 2', '2:1 : .*no field named "image_average"'),
        ('\n\nimage_mean: "a"', '3:13 : .*float'),
        ('image {\n  hdf5: "a"\n', 'Expected "}"'),
        ('batch_size: 99999999999', '1:13 : .*out of range'),
        ('model_name: "\\377"', '1:19 : .*utf-8'),
        ('alignment_options {\n type: SIFT }', '2:8 : .*has no value named SIFT'),
    ],
)
def test_errors_name_source_message_and_line(text, message):
    with pytest.raises(
        UserError, match=f'^the request is not a valid InferenceRequest: .*{message}'
    ):
        protos.parse_text(text, inference_pb2.InferenceRequest(), 'the request')


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / 'request.pbtxt'
    with pytest.raises(FileNotFoundError, match=r'request\.pbtxt'):
        protos.read_text(path, inference_pb2.InferenceRequest())
    path.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(
        UserError, match=r'request\.pbtxt is not a text file in UTF-8; expected a text-format'
    ):
        protos.read_text(path, inference_pb2.InferenceRequest())
    path.write_text('image_meen: 3')
    with pytest.raises(UserError, match=r'request\.pbtxt is not a valid InferenceRequest: 1:1'):
        protos.read_text(path, inference_pb2.InferenceRequest())


ROUND_TRIP = f"""
import sys
sys.path[:0] = sys.argv[1:]
import google.protobuf
from ffn.inference import consensus_pb2, inference_pb2, resegmentation_pb2
from ffn.utils import bounding_box_pb2, protos, vector_pb2

request = protos.read_text({str(SAMPLE)!r}, inference_pb2.InferenceRequest())
data = request.SerializeToString(deterministic=True)
assert inference_pb2.InferenceRequest.FromString(data) == request
assert inference_pb2.AlignmentOptions.NO_ALIGNMENT == 1
assert inference_pb2.InferenceRequest().batch_size == 1
for module in (bounding_box_pb2, consensus_pb2, resegmentation_pb2, vector_pb2):
    for name in module.DESCRIPTOR.message_types_by_name:
        getattr(module, name)().SerializeToString()
refused = ['batch_size: 1 batch_size: 2', 'image {{ hdf5: "a" tensorstore: "b" }}', 'batch_size: 010']
for text in [*refused, 'image_mean: 0128', 'image {{}} image {{}}']:
    try:
        raise SystemExit(f'accepted: {{protos.parse_text(text, inference_pb2.InferenceRequest(), "it")}}')
    except ValueError:
        pass
print(google.protobuf.__version__, data.hex())
"""


# The oldest protobuf itself does what Python deprecates from 3.12 on.
WARNINGS = ['-W', 'error', '-W', 'ignore:Type google._upb:DeprecationWarning']


def round_trip(*paths: Path) -> list[str]:
    """Version of protobuf and the sample request's bytes, in a process with paths put in front."""
    shown = subprocess.run(
        [sys.executable, *WARNINGS, '-c', ROUND_TRIP, *map(str, paths), str(ROOT)],
        cwd=paths[0] if paths else ROOT,
        env=os.environ | {'PYTHONPATH': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.split()


def bounds() -> tuple[str, str]:
    """Least version of protobuf for this Python, and the one it has to stay below, from requirements.txt."""
    lines = re.findall(r'^protobuf.*$', ROOT.joinpath('requirements.txt').read_text(), re.M)
    [wanted] = (
        one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()
    )
    versions = {one.operator: one.version for one in wanted.specifier}
    return versions['>='], versions['<']


@pytest.mark.parametrize('end', ['oldest', 'newest'])
def test_both_ends_of_the_range(tmp_path, end):
    least, below = bounds()
    wanted = f'protobuf=={least}.*' if end == 'oldest' else f'protobuf>={least},<{below}'
    installed = subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'install',
            '--quiet',
            '--no-deps',
            '--target',
            str(tmp_path / end),
            wanted,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f'pip cannot download {wanted}: {installed.stderr.strip()[-200:]}')
    version, data = round_trip(tmp_path / end)
    if end == 'oldest':
        assert f'{version}.'.startswith(f'{least}.')
    else:
        (folder,) = (tmp_path / end).glob('protobuf-*.dist-info')
        assert folder.name == f'protobuf-{version}.dist-info'
        assert int(version.split('.')[0]) == int(below) - 1
    assert data == round_trip()[1]
