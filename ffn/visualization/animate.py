"""Makes an animated GIF of one object while the network fills it.

    python -m ffn.visualization.animate --request request.pbtxt \
      --bounding_box 'start { x:0 y:0 z:0 } size { x:100 y:100 z:100 }' --start 50,60,40 \
      --output flood.gif

Nothing of a segmentation is written. The start is in coordinates of the volume, as the box is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Xyz
from ffn.utils.progress import progress
from ffn.utils.startup import startup_messages_hidden
from ffn.visualization.flood import FloodView
from ffn.visualization.recorder import Frame, Grown, Recorder, grow, start_in

# Milliseconds.
_FRAME, _LAST_FRAME = 100, 2000


def write_gif(frames: Sequence[Frame], path: str | Path) -> None:
    """Writes frames as an animation that is repeated for ever and rests on its last frame.

    Args:
      frames: of a recorder, at least one.
      path: where to.
    """
    first, *others = (frame.image for frame in frames)
    first.save(
        path, format='GIF', save_all=True, append_images=others, loop=0,
        duration=[_FRAME] * len(others) + [_LAST_FRAME],
    )  # fmt: skip


def animate(
    request_text: str, box_text: str, start: Xyz, output: Path, *, every: int = 1,
    max_frames: int = 200, max_steps: int | None = None, scale: int | None = None,
    follow: bool = False, quiet: bool = False,
) -> tuple[Grown, int]:  # fmt: skip
    """Grows one object and writes pictures of it.

    Args:
      request_text: InferenceRequest, text format or a file.
      box_text: BoundingBox, text format or a file.
      start: where the object is begun, in coordinates of the volume.
      output: the GIF.
      every: steps from one frame to the next.
      max_frames: so many frames at the most, 2 or more; a longer flood has fewer frames per step.
      max_steps: stop after so many.
      scale: pixels per voxel; default: by the size of the box.
      follow: cut the planes through the field of view instead of the start.
      quiet: no progress bar.

    Returns:
      What was grown, and the number of frames.

    Raises:
      UserError: what was given does not fit.
    """
    with startup_messages_hidden():
        from ffn.inference.request import read_box, read_request
        from ffn.inference.runner import Runner
        from ffn.models import precision

        precision.gpu_capability()
    request, box = read_request(request_text), read_box(box_text)
    with Runner() as runner:
        runner.start(request)
        canvas, _ = runner.make_canvas(box.start.zyx, box.size.zyx)
        start_zyx = start_in(canvas, start)
        view = FloodView(
            canvas, runner.info.input_image_size, start_zyx, follow=follow, scale=scale
        )
        recorder = Recorder(view, every, max_frames)
        with (
            atomic_path(output) as path,
            progress(total=max_steps, desc='growing', unit='step', quiet=quiet) as bar,
        ):

            def step(canvas, position_zyx):
                recorder(canvas, position_zyx)
                bar.update()

            grown = grow(canvas, start_zyx, step, max_steps)
            recorder.finish()
            if not grown.steps:
                raise UserError(
                    'the field of view was not placed at --start even once; '
                    'is init_activation below move_threshold?'
                )
            write_gif(recorder.frames, path)
    return grown, len(recorder.frames)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool.

    Raises:
      UserError: see `animate`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.visualization.animate', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--request', required=True, help='InferenceRequest, text format or a file')
    parser.add_argument(
        '--bounding_box', required=True, metavar='BOX', help='BoundingBox, text format or a file'
    )
    parser.add_argument(
        '--start', required=True, metavar='X,Y,Z', help='a voxel of the object, in the volume'
    )
    parser.add_argument('--output', required=True, type=Path, metavar='FILE.gif')
    parser.add_argument(
        '--every', type=int, default=1, metavar='N', help='draw every N-th step (1)'
    )
    parser.add_argument(
        '--max_frames', type=int, default=200, metavar='N',
        help='at most N frames: a long flood is thinned evenly (200)',
    )  # fmt: skip
    parser.add_argument('--max_steps', type=int, metavar='N', help='stop after N steps')
    parser.add_argument(
        '--scale', type=int, metavar='K', help='pixels per voxel (by the size of the box)'
    )
    parser.add_argument(
        '--follow', action='store_true', help='cut through the field of view, not the start'
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(argv)
    if args.output.suffix.lower() != '.gif':
        raise UserError(f'--output is {str(args.output)!r}; expected a name that ends in .gif')
    for name, least in (('every', 1), ('max_frames', 2), ('max_steps', 1), ('scale', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} is {value}; expected {least} or more')
    start = Xyz.parse(args.start, '--start')
    grown, frames = animate(
        args.request, args.bounding_box, start, args.output, every=args.every,
        max_frames=args.max_frames, max_steps=args.max_steps, scale=args.scale,
        follow=args.follow, quiet=args.quiet,
    )  # fmt: skip
    print(f'{args.output}, {frames} frames: {grown}')


if __name__ == '__main__':
    run_tool(main)
