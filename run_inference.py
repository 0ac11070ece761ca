"""Segments a box of a volume with a trained network.

    run_inference.py --inference_request=REQUEST.pbtxt \
        --bounding_box='start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }'

writes `seg-X_Y_Z.npz` below the request's segmentation_output_dir, and `counters.txt` there. See
doc/manual.md.
"""

from absl import flags

from ffn.utils.errors import run_script
from ffn.utils.startup import startup_messages_hidden

FLAGS = flags.FLAGS

flags.DEFINE_string(
    'inference_request', None, 'InferenceRequest in text format, or a file with it.', required=True
)
flags.DEFINE_string(
    'bounding_box', None,
    'What to segment: BoundingBox in text format (x, y, z), or a file with it.', required=True,
)  # fmt: skip
flags.DEFINE_string(
    'inference_options', '', 'InferenceOptions in text format; its fields override the request.'
)
flags.DEFINE_bool('quiet', False, 'No progress bar.')


def main() -> None:
    """Runs inference as the flags say."""
    with startup_messages_hidden():
        import tensorflow as tf

        from ffn.inference import box_run

        tf.config.list_physical_devices()
    box_run.segment_box(
        FLAGS.inference_request, FLAGS.bounding_box, FLAGS.inference_options, quiet=FLAGS.quiet
    )


if __name__ == '__main__':
    run_script(main)
