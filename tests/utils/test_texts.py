"""JSON that people write: a key twice is told, a byte order mark is skipped."""

import pytest

from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json


@pytest.mark.parametrize('text', ['{"a": 1, "a": 1}', '[{"b": {"c": 1, "a": 2, "a": {}}}]'])
def test_a_key_twice(text):
    with pytest.raises(UserError, match=r"^model_args has the key 'a' twice$"):
        parse_json(text, 'model_args')


def test_a_key_in_two_objects_and_a_mark_before_them():
    assert parse_json('\ufeff[{"a": 1}, {"a": {"a": 2}}]', 'it') == [{'a': 1}, {'a': {'a': 2}}]


@pytest.mark.parametrize('text', ['', '{', '{"a": 010}', '[' * 100_000])
def test_what_is_not_json(text):
    with pytest.raises(UserError, match=r'^model_args is not JSON: .*; given was ') as error:
        parse_json(text, 'model_args')
    assert len(str(error.value)) < 400
