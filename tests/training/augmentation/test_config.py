"""The JSON object that configures augmentation: defaults, allowed values, and every mistake."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ffn.training.augmentation import kinds
from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.config import AugmentationConfig, describe, parse_augmentation
from ffn.training.augmentation.margin import required_margin
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.volumes.units import KnownVoxelSize
from tests.training.augmentation.samples import SIZE, make_config, random_block


def test_nothing_is_no_augmentation():
    for text in ('', '  \n', '{}', ' {"comment": "nothing yet"} '):
        config = parse_augmentation(text)
        assert config == AugmentationConfig()
        assert config.chosen() == {}
        assert required_margin(config, SIZE) == Zyx(0, 0, 0)


def test_an_empty_object_is_the_default_of_its_kind():
    for key, kind in kinds.KINDS.items():
        config = parse_augmentation(json.dumps({key: {}}))
        assert config.chosen() == {key: kind()}
        assert getattr(config, key) == kind(probability=1)


def test_keys_are_the_fields_in_the_order_of_application():
    names = [item.name for item in dataclasses.fields(AugmentationConfig)]
    assert names == ['voxel_size', *kinds.KINDS]
    text = json.dumps({key: {} for key in reversed(kinds.KINDS)})
    assert list(parse_augmentation(text).chosen()) == list(kinds.KINDS)


def test_text_and_file(tmp_path):
    text = """{
      "voxel_size": [8, 8.5, 30],
      "rotation_3d": {"probability": 0.5, "max_degrees": 30},
      "misalignment": {"max_displacement": 7},
      "affine": {"per_section": true},
      "occlusion": {"min_size": [1, 2, 3], "max_size": [9, 8, 7]}
    }"""
    path = tmp_path / 'a b.json'
    path.write_text(text)
    config = parse_augmentation(str(path))
    assert config == parse_augmentation(text)
    assert config == AugmentationConfig(
        (8.0, 8.5, 30.0),
        rotation_3d=kinds.Rotation3d(probability=0.5, max_degrees=30.0),
        misalignment=kinds.Misalignment(max_displacement=7),
        affine=kinds.Affine(per_section=True),
        occlusion=kinds.Occlusion(min_size=Xyz(1, 2, 3), max_size=Xyz(9, 8, 7)),
    )
    assert config.occlusion.max_size.zyx == (7, 8, 9)
    assert isinstance(config.rotation_3d.max_degrees, float)
    hash(config)


@pytest.mark.parametrize('name', ['augmentation.json', 'augmentation_sections.json'])
def test_examples_are_valid_and_have_a_sufficient_margin(repository, name):
    config = parse_augmentation(str(repository / 'configs' / name))
    assert len(config.chosen()) >= 8
    assert max(required_margin(config, Zyx(33, 33, 33))) < 30
    size = Zyx(17, 33, 33)
    block = random_block(config, size)
    for seed in range(4):
        _, _, weights = augment(*block, size, config, np.random.default_rng(seed))
        assert (weights == 1).all()


WRONG = [
    ('{"rotation_2d": {}', 'is not JSON'),
    ('{"rotation_2d": }', 'is not JSON'),
    ('[' * 100_000, 'is not JSON'),
    ('{"noise":' * 100_000, 'is not JSON'),
    ('[]', 'holds []; expected a JSON object'),
    ('[{"noise": {}}]', 'expected a JSON object'),
    ('nowhere.json', "'nowhere.json', where no file is"),
    ('rotation_2d', 'where no file is; expected a JSON object or the path'),
    ('{"rotate": {}}', "no key 'rotate'; it has voxel_size, affine, elastic, misalignment, rotation_2d"),
    ('{"noise": {}, "noise": {}}', "'noise' twice"),
    ('{"noise": {"max_sigma": 1, "max_sigma": 2}}', "'max_sigma' twice"),
    ('{"noise": {"sigma": 1}}', "noise has no parameter 'sigma'; it has probability, min_sigma, max_sigma"),
    ('{"noise": true}', 'noise is true; expected an object of parameters, such as {}'),
    ('{"noise": null}', 'noise is null; expected an object'),
    ('{"noise": [1]}', 'noise is [1]; expected an object'),
    ('{"comment": 3}', 'comment is 3; expected a text'),
    ('{"noise": {"max_sigma": NaN}}', 'NaN, which is no finite number'),
    ('{"noise": {"max_sigma": -Infinity}}', '-Infinity, which is no finite number'),
    ('{"noise": {"max_sigma": 1e999}}', '1e999, which is no finite number'),
    ('{"noise": {"max_sigma": "1"}}', "noise.max_sigma is '1'; expected a number from 0 to 10"),
    ('{"noise": {"max_sigma": true}}', 'noise.max_sigma is true; expected a number'),
    ('{"noise": {"max_sigma": null}}', 'noise.max_sigma is null; expected a number'),
    ('{"noise": {"probability": 1.5}}', 'noise.probability is 1.5; expected a number from 0 to 1'),
    ('{"noise": {"probability": -0.1}}', 'noise.probability is -0.1; expected a number from 0 to 1'),
    ('{"noise": {"min_sigma": 0.5, "max_sigma": 0.4}}', 'min_sigma is 0.5, more than max_sigma 0.4'),
    ('{"noise": {"min_sigma": 0.5}}', 'noise.min_sigma is 0.5, more than max_sigma 0.2'),
    ('{"rotation_2d": {"max_degrees": 181}}', 'rotation_2d.max_degrees is 181; expected a number from 0 to 180'),
    ('{"rotation_3d": {"max_degrees": -1}}', 'rotation_3d.max_degrees is -1; expected'),
    ('{"rotation_3d": {"uniform": 1}}', 'rotation_3d.uniform is 1; expected true or false'),
    ('{"rotation_3d": {"uniform": true, "max_degrees": 20}}', 'max_degrees is 20, but uniform is true'),
    ('{"affine": {"max_scale": 0.6}}', 'affine.max_scale is 0.6; expected a number from 0 to 0.5'),
    ('{"affine": {"max_shear": 0.5}}', 'affine.max_shear is 0.5; expected a number from 0 to 0.4'),
    ('{"affine": {"max_scale_z": 0.1, "per_section": true}}', 'max_scale_z is 0.1, but per_section is true'),
    ('{"elastic": {"amplitude": 6, "smoothness": 8}}', 'smoothness is 8 with amplitude 6; expected 1.5 times'),
    ('{"elastic": {"smoothness": 0.5}}', 'elastic.smoothness is 0.5; expected a number from 1 to'),
    ('{"misalignment": {"max_displacement": 2.5}}', 'is 2.5; expected a whole number from 0 to 200'),
    ('{"misalignment": {"slip_probability": 2}}', 'slip_probability is 2; expected'),
    ('{"contrast": {"min_factor": -1}}', 'contrast.min_factor is -1; expected'),
    ('{"contrast": {"per_section": "yes"}}', "contrast.per_section is 'yes'; expected true or false"),
    ('{"brightness": {"max_shift": -1}}', 'brightness.max_shift is -1; expected'),
    ('{"gamma": {"min_exponent": 0}}', 'gamma.min_exponent is 0; expected a number from 0.1 to 10'),
    ('{"gamma": {"min_exponent": 2}}', 'min_exponent is 2.0, more than max_exponent 1.25'),
    ('{"occlusion": {"min_size": [3, 3]}}', 'occlusion.min_size is [3, 3]; expected three whole numbers [x, y, z]'),
    ('{"occlusion": {"min_size": 3}}', 'occlusion.min_size is 3; expected three whole'),
    ('{"occlusion": {"min_size": [3, 3, 0]}}', 'is [3, 3, 0]; expected three whole numbers [x, y, z] from 1'),
    ('{"occlusion": {"min_size": [3, 3, 1.5]}}', 'is [3, 3, 1.5]; expected'),
    ('{"occlusion": {"min_size": [3, 3, 9]}}', 'min_size is [3, 3, 9], more than max_size [11, 11, 5]'),
    ('{"occlusion": {"min_boxes": 3}}', 'min_boxes is 3, more than max_boxes 2'),
    ('{"missing_section": {"section_probability": 3}}', 'missing_section.section_probability is 3'),
    ('{"missing_section": {"min_fill": 1}}', 'min_fill is 1.0, more than max_fill 0.0'),
    ('{"voxel_size": [1, 1]}', 'voxel_size is [1, 1]; expected three positive numbers [x, y, z]'),
    ('{"voxel_size": 8}', 'voxel_size is 8; expected three'),
    ('{"voxel_size": [1, 1, 0]}', 'voxel_size is [1, 1, 0]; expected three positive'),
    ('{"voxel_size": [1, "1", 1]}', 'expected three positive'),
    ('{"voxel_size": [1, 1, 1001]}', 'none more than 1000 times another'),
    ('{"voxel_size": [1e999, 1, 1]}', '1e999, which is no finite number'),
    ('{"voxel_size": [1e999, 1e999, 1e999]}', '1e999, which is no finite number'),
    ('{"voxel_size": [1' + '0' * 400 + ', 1, 1]}', 'expected three positive'),
    ('{"noise": {"max_sigma": 1' + '0' * 400 + '}}', 'expected a number from 0 to 10'),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'words'), WRONG, ids=[text[:60] for text, _ in WRONG])
def test_mistakes(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        parse_augmentation(text)
    message = str(raised.value)
    assert words in message
    assert message.startswith('--augmentation')
    assert '\n' not in message
    assert len(message) < 400
    if text.startswith(('{', '[')):
        path = tmp_path / 'file.json'
        path.write_text(text)
        with pytest.raises(UserError) as raised:
            parse_augmentation(str(path))
        assert words in str(raised.value)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(b'\xff\xfe{\0}\0')
    with pytest.raises(UserError, match='is no UTF-8 text'):
        parse_augmentation(str(path))
    with pytest.raises(UserError, match='where no file is'):
        parse_augmentation(str(tmp_path))


def partner(name, value):
    """Another parameter that has to go with one that is at its limit."""
    if name.startswith(('min_', 'max_')) and name not in (
        'max_degrees',
        'max_scale',
        'max_scale_z',
        'max_shear',
        'max_displacement',
        'max_shift',
    ):
        return {('max_' if name.startswith('min_') else 'min_') + name[4:]: value}
    return {'amplitude': {'smoothness': 150}, 'smoothness': {'amplitude': 0}}.get(name, {})


def test_every_limit_is_checked_and_itself_allowed():
    for key, kind in kinds.KINDS.items():
        for item in dataclasses.fields(kind):
            low, high = item.metadata['low'], item.metadata['high']
            if isinstance(item.default, bool):
                continue
            for value, beyond in ((low, low - 1), (high, high + 1)):
                wrong = [beyond] * 3 if isinstance(item.default, tuple) else beyond
                with pytest.raises(UserError, match=rf'{key}\.{item.name} is .*; expected'):
                    make_config({key: {item.name: wrong}})
                right = [value] * 3 if isinstance(item.default, tuple) else value
                make_config({key: {item.name: right} | partner(item.name, right)})


def test_settings_are_checked_without_json_too():
    with pytest.raises(UserError, match=r'rotation_2d\.max_degrees is 200'):
        kinds.Rotation2d(max_degrees=200)
    with pytest.raises(UserError, match='voxel_size'):
        AugmentationConfig((0, 1, 1))


def test_the_list_of_keys_is_complete():
    table = describe().splitlines()
    assert all(line.count('|') == 6 for line in table)
    for key, kind in kinds.KINDS.items():
        start = next(i for i, line in enumerate(table) if f'**`{key}`**' in line)
        for offset, item in enumerate(dataclasses.fields(kind), 1):
            assert f'`{item.name}`' in table[start + offset]
    assert '| | `max_degrees` | 180 | 0 … 180 | maximum angle, in both directions |' in table
    assert '| | `min_size` | 3, 3, 1 | 1 … 1000 | minimum size x,y,z of a box |' in table


@pytest.mark.parametrize(
    ('augmentation', 'training', 'told'),
    [
        ('{"voxel_size": [6, 6, 30], "rotation_3d": {}}', (8.0, 8.0, 40.0), False),
        ('{"voxel_size": [6, 6, 30], "rotation_3d": {}}', (8.0, 8.0, 30.0), True),
        ('{"voxel_size": [30, 6, 6], "affine": {}, "noise": {}}', (6.0, 6.0, 30.0), True),
        ('{"elastic": {}}', (8.0, 8.0, 30.0), True),
        ('{"elastic": {}}', (8.0, 8.0, 8.0), False),
        ('{"noise": {}}', (8.0, 8.0, 30.0), False),
    ],
)
def test_other_proportions_than_those_of_the_training_are_told(
    caplog, augmentation, training, told
):
    config = parse_augmentation(augmentation)
    config.warn_of_contradiction(None)
    assert not caplog.messages
    config.warn_of_contradiction(KnownVoxelSize(training, '--voxel_size'))
    size = ','.join(f'{n:g}' for n in config.voxel_size)
    both = f'augmentation, x,y,z {size}, has other proportions than x,y,z {training[0]:g},'
    assert (both in caplog.text) == told
    assert ('(--voxel_size); ' in caplog.text) == told
