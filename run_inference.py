"""Segments a box of a volume with a trained network.

    run_inference.py --inference_request=REQUEST.pbtxt \
        --bounding_box='start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }'

writes `seg-X_Y_Z.npz` below the request's segmentation_output_dir, and `counters.txt` there. The
network runs on Keras' TensorFlow backend, or on that which KERAS_BACKEND names. See doc/manual.md.
"""

from absl import flags

from ffn.utils.errors import run_script
from ffn.utils.startup import startup_messages_hidden

FLAGS = flags.FLAGS

flags.DEFINE_string(
    'inference_request', None, 'InferenceRequest in text format, or a file with it.', required=True
)
flags.DEFINE_string(
    'bounding_box', '', 'What to segment: BoundingBox in text format (x, y, z), or a file with it.'
)
flags.DEFINE_string(
    'bounding_boxes', '',
    'Several instead: BoundingBoxes in text format, or a file with it. As many at a time as the '
    "request's concurrent_requests says.",
)  # fmt: skip
flags.DEFINE_string(
    'inference_options', '', 'InferenceOptions in text format; its fields override the request.'
)
flags.DEFINE_enum(
    'precision', '', ['', 'float32', 'bfloat16', 'float16', 'auto'],
    'What the network computes in; overrides the request. auto: the fastest that the device does well.',
)  # fmt: skip
flags.DEFINE_string('report', '', 'File for a report of the run as JSON.')
flags.DEFINE_bool('quiet', False, 'No progress bar.')


def main() -> None:
    """Runs inference as the flags say."""
    with startup_messages_hidden():
        from ffn.inference import box_run
        from ffn.models import precision

        precision.gpu_capability()
    box_run.segment(
        FLAGS.inference_request, FLAGS.bounding_box, FLAGS.bounding_boxes, FLAGS.inference_options,
        FLAGS.precision, FLAGS.report, FLAGS.quiet,
    )  # fmt: skip


if __name__ == '__main__':
    run_script(main)
