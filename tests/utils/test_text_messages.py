"""Text messages: what could be taken in two ways is refused; several go on top of each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference import inference_pb2
from ffn.utils import protos
from ffn.utils.errors import UserError


def test_text_goes_on_top_of_a_message():
    request = inference_pb2.InferenceRequest()
    text = 'inference_options { pad_value: 0.25 min_segment_size: 5 } image { hdf5: "a.h5:raw" } masks {}'
    protos.parse_text(text, request, 'request')
    protos.parse_text(
        'pad_value: 0.5 min_boundary_dist { y: 2 }', request.inference_options, 'more'
    )
    protos.parse_text('masks { invert: true } image { tensorstore: "{}" }', request, 'more')
    protos.parse_text('# nothing', request.alignment_options, 'nothing')
    assert not request.HasField('alignment_options')
    expected = inference_pb2.InferenceRequest()
    expected.inference_options.pad_value = 0.5
    expected.inference_options.min_segment_size = 5
    expected.inference_options.min_boundary_dist.y = 2
    expected.image.tensorstore = '{}'
    expected.masks.add()
    expected.masks.add(invert=True)
    assert request == expected


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('image_mean: 1\nimage_mean: 2 ', 'should not have multiple "image_mean"'),
        ('image { hdf5: "a" }\nimage { hdf5: "b" }', 'should not have multiple "image"'),
        ('shift_mask_fov { start { x: 1 x: 1 } }', 'should not have multiple "x"'),
        ('image { hdf5: "a" tensorstore: "b" }', '"tensorstore" is specified along with .*"hdf5"'),
        (
            '\nshift_mask_fov { start { x:0100 } }',
            ', line 2: x is 0100: 100 as a decimal number, but 64 as an octal one.* write 100 or 64$',
        ),
        ('shift_mask_fov { start { x : -010 } }', ', line 1: x is -010: .*write -10 or -8$'),
        ('masks { volume { channels { values: [8, 012] } } }', 'write 12 or 10$'),
        ('batch_size: 08', ', line 1: batch_size is 08, with a leading zero'),
        ('image_mean: 0128.5', 'image_mean is 0128.5, with a leading zero'),
    ],
)
def test_what_can_be_taken_in_two_ways_is_refused(text, message):
    with pytest.raises(UserError, match=f'^it.*{message}'):
        protos.parse_text(text, inference_pb2.InferenceRequest(), 'it')


def test_numbers_that_only_look_octal():
    text = (
        '# 0100\nmodel_name: "n: 0100 \\" 012" model_args: \'x: 0100\' batch_size: 07 image_mean: 0.05'
        ' image_stddev: 1e-05 shift_mask_scale: 0x0100 shift_mask_threshold: 00 checkpoint_interval: 100'
    )
    request = protos.parse_text(text, inference_pb2.InferenceRequest(), 'it')
    assert (request.model_name, request.model_args) == ('n: 0100 " 012', 'x: 0100')
    assert (request.batch_size, request.shift_mask_scale) == (7, 256)
    assert (request.shift_mask_threshold, request.checkpoint_interval) == (0, 100)
    assert (request.image_mean, request.image_stddev) == pytest.approx((0.05, 1e-5))


floats = st.floats(width=32, allow_nan=False)


@given(st.text(), floats, st.integers(-(2**31), 2**31 - 1), st.lists(st.integers(0, 2**64 - 1)))
@settings(max_examples=60, deadline=None)
def test_what_is_written_as_text_is_read_back(text, number, whole, values):
    request = inference_pb2.InferenceRequest(
        model_name=text, model_args=f'x: {whole:05d}', image_mean=number, batch_size=whole
    )
    request.masks.add().volume.channels.add(values=values, min_value=number)
    read = protos.parse_text(protos.to_text(request), inference_pb2.InferenceRequest(), 'it')
    assert read == request


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / 'request.pbtxt'
    path.write_text('image_mean: 3 model_name: "µ"', encoding='utf-8-sig')
    assert path.read_bytes().startswith(b'\xef\xbb\xbf')
    request = protos.read_text_or_file(str(path), inference_pb2.InferenceRequest(), 'it')
    assert (request.image_mean, request.model_name) == (3, 'µ')
    text = path.read_text(encoding='utf-8')  # as a shell passes it on
    assert protos.read_text_or_file(text, inference_pb2.InferenceRequest(), 'it') == request
