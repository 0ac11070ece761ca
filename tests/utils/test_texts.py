"""JSON that people write: a key twice is told, a byte order mark is skipped."""

import math

import pytest

from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json, parse_object, told_apart


@pytest.mark.parametrize('text', ['{"a": 1, "a": 1}', '[{"b": {"c": 1, "a": 2, "a": {}}}]'])
def test_a_key_twice(text):
    with pytest.raises(UserError, match=r"^model_args has the key 'a' twice$"):
        parse_json(text, 'model_args')


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '-Infinity', '1e999', '-1.5E400'])
def test_a_number_that_is_not_finite(number):
    with pytest.raises(UserError, match=f'^model_args holds {number}, which is no finite number$'):
        parse_json(f'{{"a": [1.5, {number}]}}', 'model_args')


@pytest.mark.parametrize('number', ['NaN', '1e999'])
def test_infinite_numbers_where_they_mean_something(number):
    assert parse_json('[-Infinity, Infinity]', 'it', infinite=True) == [-math.inf, math.inf]
    with pytest.raises(UserError, match=f'^it holds {number}, which is no finite number$'):
        parse_json(number, 'it', infinite=True)


def test_a_key_in_two_objects_and_a_mark_before_them():
    assert parse_json('\ufeff[{"a": 1}, {"a": {"a": 2}}]', 'it') == [{'a': 1}, {'a': {'a': 2}}]


@pytest.mark.parametrize('text', ['', '{', '{"a": 010}', '[' * 100_000])
def test_what_is_not_json(text):
    with pytest.raises(UserError, match=r'^model_args is not JSON: .*; given was ') as error:
        parse_json(text, 'model_args')
    assert len(str(error.value)) < 400


def test_an_object_with_many_keys_takes_no_more_than_a_moment():
    names = [f'"{n}": {n}' for n in range(200_000)]
    assert len(parse_json('{' + ','.join(names) + '}', 'it')) == 200_000


@pytest.mark.parametrize(
    ('data', 'why'),
    [
        (b'{"a": ', r'it is not JSON \(Expecting value: line 1 column 7 \(char 6\)\)'),
        (b'{"a": "\xff"}', r"it is not JSON \('utf-8' codec can't decode byte 0xff .*\)"),
        (b'[' * 100_000, r'it is not JSON \(RecursionError .*\)'),
        (b'[1]', 'it holds no JSON object'),
    ],
)
def test_a_damaged_object(data, why):
    with pytest.raises(UserError, match=f'^a/info is damaged: {why}$'):
        parse_object(data, 'a/info')


@pytest.mark.parametrize(
    ('first', 'second', 'shown'),
    [
        ('abc', 'abd', ('abc', 'abd')),
        ('', 'abcdefgh', ('', 'abcde…')),
        ('abcdefgh', 'abXdefgh', ('abcde…', 'abXde…')),
        ('abcdefghijklmnop', 'abcdefgXijklmnop', ('abcde…hijkl', 'abcde…Xijkl')),
        ('abcde', 'abcdefg', ('abcde', 'abcde…fg')),
    ],
)
def test_what_differs_late_is_told_apart(first, second, shown):
    assert told_apart(first, second, 5) == shown
