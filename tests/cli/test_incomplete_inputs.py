"""What is made of a volume is made of all of it: one that a stopped command has not written to its end is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.agglomeration.overlaps import check_covers
from ffn.cli import (
    augmentations,
    compare,
    evaluate,
    import_labels,
    import_stack,
    partitions,
    plan,
    report,
)
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.trial_digests import truth_digest
from ffn.inference import inference_pb2
from ffn.training.input.examples import ExampleSource
from ffn.training.sampling.coordinates import build_coordinates
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import VolumeSource
from tests.training import sample

BOX = Box(Xyz(0, 0, 0), Xyz(13, 11, 8))


@pytest.fixture
def unfinished(tmp_path):
    output = OutputSpec(f'zarr://{tmp_path}/labels', BOX, Xyz(8, 8, 8), (8, 8, 30))
    output.create('of something')
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = np.zeros(BOX.size.zyx, np.uint8)
    return output.spec


def test_commands(tmp_path, unfinished):
    image, out = f'{tmp_path}/v.h5:raw', f'{tmp_path}/out.h5:x'
    for main, arguments in (
        (
            partitions.main,
            [
                '--input_volume',
                unfinished,
                '--output_volume',
                out,
                '--thresholds',
                '0.5',
                '--lom_radius',
                '2,2,1',
            ],
        ),
        (plan.main, ['--image', image, '--labels', unfinished, '--output', f'{tmp_path}/plan']),
        (plan.main, ['--image', unfinished, '--labels', image, '--output', f'{tmp_path}/plan']),
        (import_labels.main, ['--input', unfinished, '--output', out]),
        (import_stack.main, ['--images', unfinished, '--output', out]),
        (
            augmentations.main,
            ['--image', image, '--labels', unfinished, '--output', f'{tmp_path}/picture.png'],
        ),
    ):
        with pytest.raises(UserError, match='labels is not complete; run the command that writes'):
            main(arguments)
    assert {path.name for path in tmp_path.iterdir()} <= {'labels', 'v.h5', '.out.h5.lock'}


def test_training(tmp_path, unfinished):
    sample.write_sample(tmp_path)
    config = sample.data_config(tmp_path, label_volumes={'v': unfinished})
    with pytest.raises(UserError, match='is not complete'):
        ExampleSource(config, Zyx(3, 5, 5), 0, ahead=1)


def test_masks(tmp_path, unfinished):
    """A voxel that is not written yet would not be masked."""
    mask = f'volume {{ mask {{ hdf5: "{unfinished}" }} channels {{ min_value: 1 }} }}'
    arguments = ['--lom_radius', '2,2,1', '--thresholds', '0.5', '--mask_configs']
    volumes = ['--input_volume', f'{tmp_path}/v.h5:raw', '--output_volume', f'{tmp_path}/out.h5:x']
    with pytest.raises(UserError, match='is not complete'):
        partitions.main([*volumes, *arguments, f'masks {{ {mask} }}'])
    assert not (tmp_path / 'out.h5').exists()


@pytest.mark.parametrize('command', ['evaluate', 'compare', 'report'])
def test_images_of_pages(tmp_path, unfinished, command):
    with h5py.File(tmp_path / 'v.h5', 'a') as file:
        file['labels'] = np.ones(BOX.size.zyx, np.uint8)
    labels, page = f'{tmp_path}/v.h5:labels', f'{tmp_path}/page.html'
    main, arguments = {
        'evaluate': (evaluate.main, ['--segmentation', labels, '--groundtruth', labels]),
        'compare': (compare.main, [labels, labels]),
        'report': (report.main, [labels]),
    }[command]
    written = '--output' if command == 'report' else '--html'
    with pytest.raises(UserError, match='is not complete'):
        main([*arguments, '--image', unfinished, written, page, '--quiet'])
    assert not (tmp_path / 'page.html').exists()


def test_partition_volumes(tmp_path, unfinished):
    volumes, output = {'v': unfinished}, f'{tmp_path}/coordinates'
    with pytest.raises(UserError, match='is not complete'):
        build_coordinates(volumes, output, Zyx(0, 0, 0))


def test_held_out_boxes(tmp_path, unfinished):
    request = inference_pb2.InferenceRequest(seed_policy='PolicyPeaks')
    request.image.hdf5 = unfinished
    with pytest.raises(UserError, match='is not complete'):
        HeldOutBox(request, f'{tmp_path}/v.h5:raw', BOX)
    with pytest.raises(UserError, match='is not complete'):
        truth_digest(unfinished, BOX, ())


def test_ground_truth_of_a_fit(unfinished):
    with pytest.raises(UserError, match='is not complete'):
        check_covers(VolumeSource(unfinished), BOX)
