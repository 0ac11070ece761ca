"""Segments a box of a volume with a trained network.

    run_inference.py --inference_request=REQUEST.pbtxt \
        --bounding_box='start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }'

writes `seg-X_Y_Z.npz` below the request's segmentation_output_dir, and `counters.txt` there. The
network runs on Keras' TensorFlow backend, or on that which KERAS_BACKEND names. See doc/reference.md. The
same as `ffn infer`.
"""

from absl import flags

from ffn.cli import absl_flags, infer
from ffn.utils.errors import run_script

FLAGS = flags.FLAGS

absl_flags.define(infer.Infer)


def main() -> None:
    """Runs inference as the flags say."""
    infer.run(absl_flags.read(infer.Infer))


if __name__ == '__main__':
    run_script(main)
