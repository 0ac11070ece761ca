"""`ffn partitions`, `ffn coordinates` and `ffn infer`: every flag reaches its place."""

from __future__ import annotations

import pytest

from ffn.cli import coordinates, infer, partitions
from ffn.cli.request_flags import Changes
from ffn.training.sampling.partitions import PartitionConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.volumes.masks import ChannelCondition, CoordinateMask, ImageMask, Mask


@pytest.fixture
def call(monkeypatch):
    """Calls a command; returns what would be done."""

    def parsed(module, *argv):
        done = []
        monkeypatch.setattr(module, 'run', done.append)
        module.main(argv)
        return done[0]

    return parsed


PARTITIONS = (
    '--input_volume=labels.h5:stack',
    '--output_volume=out.h5:af',
    '--thresholds=0.2,0.5',
    '--lom_radius=3,2,1',
)
MASKS = """
  masks { coordinate_expression { expression: "z > 10" } }
  masks { image { channels { channel: 1 max_value: 3 } } invert: true }
"""


def test_partitions(call, tmp_path):
    least = partitions.Partitions(
        'labels.h5:stack', 'out.h5:af', PartitionConfig((0.2, 0.5), Xyz(3, 2, 1))
    )
    assert call(partitions, *PARTITIONS) == least
    (tmp_path / 'masks.pbtxt').write_text(MASKS)
    for masks in (MASKS, tmp_path / 'masks.pbtxt'):
        command = call(
            partitions,
            *PARTITIONS,
            '--id_whitelist=7,-3',
            '--exclusion_regions=1,2,3,4.5,6,7,8,9',
            f'--mask_configs={masks}',
            '--min_size=11',
            '--quiet',
        )
        assert command.config == PartitionConfig(
            (0.2, 0.5),
            Xyz(3, 2, 1),
            id_whitelist=(7, -3),
            exclusion_regions=((1, 2, 3, 4.5), (6, 7, 8, 9)),
            masks=(
                Mask(CoordinateMask('z > 10')),
                Mask(ImageMask((ChannelCondition(1, max_value=3),)), invert=True),
            ),
            min_size=11,
        )
        assert command.quiet


COORDINATES = ('--partition_volumes=a:p.h5:af,b:q.h5:af', '--coordinate_output=c', '--margin=3,2,1')


def test_coordinates(call):
    volumes = {'a': 'p.h5:af', 'b': 'q.h5:af'}
    least = coordinates.Coordinates(volumes, 'c', Zyx(3, 2, 1))
    assert call(coordinates, *COORDINATES) == least
    more = ('--seed=4', '--shards=2', '--max_coordinates=99', '--quiet')
    every = coordinates.Coordinates(volumes, 'c', Zyx(3, 2, 1), 4, 2, 99, True)
    assert call(coordinates, *COORDINATES, *more) == every


def test_infer(call, capsys):
    assert call(infer, '--inference_request=r') == infer.Infer('r')
    texts = {
        'inference_request': 'r',
        'bounding_box': 'b',
        'bounding_boxes': 'bs',
        'report': 'r.json',
    }
    changes = {'inference_options': 'min_segment_size: 3', 'precision': 'auto'}
    flags = [f'--{name}={text}' for name, text in (texts | changes).items()]
    expected = infer.Infer(**texts, quiet=True, changes=Changes(**changes))
    assert call(infer, *flags, '--quiet') == expected
    with pytest.raises(SystemExit):
        call(infer, '--inference_request=r', '--precision=float64')
    assert "invalid choice: 'float64'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('module', 'arguments', 'message'),
    [
        (partitions, (*PARTITIONS, '--lom_radius=3,1'), '--lom_radius .*three integers x,y,z'),
        (partitions, (*PARTITIONS, '--thresholds=0.5,high'), 'expected a list of numbers'),
        (partitions, (*PARTITIONS, '--exclusion_regions=1,2,3'), 'has 3 numbers; expected x,y,z,r'),
        (coordinates, (*COORDINATES, '--margin=1,2'), '--margin .*three integers z,y,x'),
        (coordinates, (*COORDINATES, '--partition_volumes=p.h5:af'), 'name:path:dataset'),
        (coordinates, (*COORDINATES, '--coordinate_output='), '--coordinate_output is empty'),
    ],
)
def test_mistakes(call, module, arguments, message):
    with pytest.raises(UserError, match=message):
        call(module, *arguments)
