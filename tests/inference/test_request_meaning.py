"""The same request in other words, and the same inputs elsewhere."""

from __future__ import annotations

import json

import pytest
from google.protobuf import text_format

from ffn.inference import inference_pb2
from ffn.inference.request_meaning import comparable, settings_of
from ffn.volumes.provenance import differences

STORE = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': '/a/shifts/'}}
SHIFTS = f"shift_mask {{ tensorstore: '{json.dumps(STORE)}' }}"
ARGS = '"depth": 2, "features": [4, 3]'
MASK = 'masks { volume { mask { hdf5: "/a/v.h5:mask#1" } channels { values: 1 } } }'
REQUEST = f"""
image {{ hdf5: "/a/v.h5:raw" }}
model_checkpoint_path: "/a/net/model.ckpt-1"
model_name: "convstack_3d.ConvStack3DFFNModel"
model_args: '{{{ARGS}}}'
seed_policy: "PolicyInvertOrigins"
seed_policy_args: '{{"segmentation_dir": "/a/one"}}'
inference_options {{ move_threshold: 0.9 min_boundary_dist {{ x: 1 }} }}
{SHIFTS}
{MASK}
"""


def parse(text: str) -> inference_pb2.InferenceRequest:
    return text_format.Parse(text, inference_pb2.InferenceRequest())


def shown(there: str, here: str, alike=()) -> str:
    return differences(*(settings_of(parse(text), alike) for text in (there, here)))


@pytest.mark.parametrize(
    ('written', 'otherwise'),
    [
        ('"depth": 2, ', '"depth":2,'),
        (ARGS, '"features": [4, 3], "depth": 2'),
        ('"convstack_3d.', '"ffn.training.models.convstack_3d.'),
        ('"PolicyInvert', '"ffn.inference.seeds.earlier_run.PolicyInvert'),
        ('min_boundary_dist { x: 1 }', 'min_boundary_dist { x: 1 y: 0 z: 0 } max_object_steps: 0'),
        ('channels { values: 1 }', 'channels { channel: 0 values: 1 invert: false }'),
        (SHIFTS, SHIFTS.replace('": ', '":')),
        ('/a/one', '/a/two/../one'),
        (MASK, f'{MASK} movement_policy_name: "FaceMaxMovementPolicy"'),
        (MASK, f'{MASK} movement_policy_args: "{{}}"'),
        (MASK, f'{MASK} use_ema: false histogram_per_subvolume: false precision: "float32"'),
        (MASK, f'{MASK} alignment_options {{ type: NO_ALIGNMENT }}'),
        (MASK, f'{MASK} voxel_size {{ x: 1 y: 1 z: 1 }} batch_size: 3'),
    ],
)
def test_the_same_in_other_words(written, otherwise):
    assert written in REQUEST
    assert settings_of(parse(REQUEST)) == settings_of(parse(REQUEST.replace(written, otherwise)))


@pytest.mark.parametrize(
    ('written', 'otherwise', 'said'),
    [
        ('"depth": 2', '"depth": 3', 'model_args.depth is 2 there and 3 here'),
        ('x: 1 }', 'y: 1 }', 'inference_options.min_boundary_dist.x is 1 there and 0 here, '),
        ('v.h5:raw', 'v.h5:raw2', 'image.hdf5 is /a/v.h5:raw there and /a/v.h5:raw2 here'),
        ('values: 1', 'min_value: 0', 'masks is '),
        (
            MASK,
            'movement_policy_name: "CoarseToFineMovementPolicy"',
            'movement_policy_name is FaceMaxMovementPolicy there and CoarseToFineMovementPolicy here',
        ),
        ('one"', 'one", "a": null', 'seed_policy_args.a is not set there and null here'),
        (MASK, f'{MASK} voxel_size {{ x: 1 y: 1 z: 2 }}', 'voxel_size.x is not set there and 1.0'),
    ],
)
def test_what_means_something_else_is_named(written, otherwise, said):
    assert said in shown(REQUEST, REQUEST.replace(written, otherwise))


@pytest.mark.parametrize(
    ('field', 'written', 'otherwise'),
    [
        ('image', '/a/v.h5:raw', '/b/w.h5:raw'),
        ('masks[0]', '/a/v.h5:mask', '/b/v.h5:mask'),
        ('masks', '/a/v.h5:mask', '/b/v.h5:mask'),
        ('shift_mask', '/a/shifts', '/b/shifts'),
        ('seed_policy_args', '/a/one', '/b/one'),
        ('model_checkpoint_path', '/a/net', '/b/net'),
    ],
)
def test_where_something_is_counts_unless_it_is_the_same(field, written, otherwise):
    moved = REQUEST.replace(written, otherwise)
    assert '/a/' in shown(REQUEST, moved)
    assert shown(REQUEST, moved, {field}) == ''


@pytest.mark.parametrize(
    ('written', 'otherwise'), [(':raw', ':raw2'), ('mask#1', 'mask#2'), ('"zarr"', '"n5"')]
)
def test_of_what_is_at_one_place_which_one_it_is_counts(written, otherwise):
    other = REQUEST.replace(written, otherwise)
    assert shown(REQUEST, other, {'image', 'masks', 'shift_mask'})


def test_records_of_folders():
    """Of earlier versions, too, and of what is no request."""
    there = {
        'request': {'image': {'hdf5': '/a/v.h5:raw'}, 'model_args': '{"depth": 2}'},
        'masks': 'masks { volume { mask { hdf5: "/a/m.h5:m" } channels { values: 1 } } }',
        'resegmentation': {'radius': {'x': '1'}, 'terminate_early': False},
        'tiling': [1, 2],
    }
    here = json.loads(json.dumps(there).replace('/a/', '/b/').replace(': 2}', ':2}'))
    here['resegmentation'] = {'radius': {'x': '1', 'y': '0', 'z': '0'}, 'max_retry_iters': 1}
    assert 'request.image.hdf5 is' in differences(comparable(there), comparable(here))
    said = differences(comparable(there, {'image'}), comparable(here, {'image'}))
    assert '/a/m.h5:m' in said
    assert 'image' not in said
    here['masks'] = there['masks'].replace('values: 1', 'values:1')
    assert comparable(there, {'image'}) == comparable(here, {'image'})
    of_others = {'request': {'unknown': 1}, 'masks': 'no', 'inference': 'text'}
    assert comparable(of_others) == of_others


def test_which_array_of_a_zip_file_counts_wherever_the_file_is():
    def image(file: str, array: str) -> str:
        base = {'driver': 'file', 'path': file}
        store = {'driver': 'zip', 'base': base, 'path': array}
        return f"image {{ tensorstore: '{json.dumps({'driver': 'zarr', 'kvstore': store})}' }}"

    assert shown(image('/a/v.zip', 'raw/'), image('/b/v.zip', 'raw/'), {'image'}) == ''
    assert shown(image('/a/v.zip', 'raw/'), image('/a/v.zip', 'other/'), {'image'})
