"""`ffn seed`: objects grown live from voxels that a person points at, in Neuroglancer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import parse_command, read_settings
from ffn.cli.request_flags import Changes
from ffn.inference.request import read_box, read_config
from ffn.utils.errors import UserError
from ffn.utils.settings import section, setting
from ffn.utils.startup import startup_messages_hidden


def _volumes(texts: list[str], flag: str) -> tuple[str, ...]:
    if not all(texts):
        raise UserError(f'{flag} has an empty entry; expected volumes between commas')
    return tuple(texts)


@dataclass(frozen=True)
class Seed:
    """Settings of the command."""

    inference_request: str = setting(
        'InferenceRequest in text format, or a file with it', metavar='REQUEST'
    )
    bounding_box: str = setting(
        'what is seeded: BoundingBox in text format, start and size in x, y, z, or a file with it',
        metavar='BOX',
    )
    output: str = setting(
        'folder of the result; without it, segmentation_output_dir of the request',
        default='',
        metavar='DIR',
    )
    image: str = setting(
        "image volume that is shown in place of the request's", default='', metavar='VOLUME'
    )
    labels: tuple[str, ...] = setting(
        'volumes of labels, or folders of results, that are shown as well',
        default=(),
        parse=_volumes,
        comma_list=True,
        metavar='VOLUME,...',
    )
    port: int = setting('of the viewer, on this machine only; 0: any free one', default=0)
    changes: Changes = section('In place of what the request says', default_factory=Changes)


def run(command: Seed) -> None:
    """Serves the viewer until it is interrupted."""
    with startup_messages_hidden():
        try:
            from ffn.proofreading.seeding import seed_run
        except ImportError as error:
            raise UserError(
                'ffn seed needs Neuroglancer: pip install "flood-filling-networks[view]"'
            ) from error
    config = read_config(command.inference_request, command.changes.inference_options)
    config = dataclasses.replace(
        config,
        segmentation_output_dir=command.output or config.segmentation_output_dir,
        precision=command.changes.precision or config.precision,
    )
    box = read_box(command.bounding_box)
    with startup_messages_hidden():
        from ffn.models import precision

        precision.gpu_capability()
    look = seed_run.serve(config, box, command.image, command.labels, command.port)
    print(f'accepted objects: {len(look.accepted)}, in {config.segmentation_output_dir}')


def main(argv: Sequence[str] | None = None) -> None:
    """Grows objects from voxels that are pointed at, in a viewer."""
    args = parse_command(
        'seed',
        'Grows objects live from voxels that you point at, in Neuroglancer in a browser of this machine: f floods\n'
        'from the voxel under the mouse, a accepts, r rejects, z takes back; the page shows all keys. Accepted\n'
        'objects are saved at once, and make a result like that of `ffn infer`; the next session goes on with it.',
        'What is seeded, and how',
        Seed,
        argv,
        epilog='ffn seed --inference_request REQUEST.pbtxt \\\n'
        "  --bounding_box 'start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }' --output seeded",
    )
    run(read_settings(args, Seed))
