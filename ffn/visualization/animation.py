"""Makes an animated GIF of one object as the network fills it; writes no segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffn.inference.core.canvas import Canvas
from ffn.inference.request import read_box, read_config
from ffn.inference.runner import Runner
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Position, Xyz
from ffn.utils.progress import progress
from ffn.utils.startup import startup_messages_hidden
from ffn.visualization.flood import FloodView
from ffn.visualization.recorder import Frame, Grown, Recorder, grow, start_in

# Milliseconds.
_FRAME, _LAST_FRAME = 100, 2000


def write_gif(frames: Sequence[Frame], path: str | Path) -> None:
    """Writes frames as an endlessly repeated animation that pauses on its last frame.

    Args:
      frames: of a recorder, at least one.
      path: GIF to write.
    """
    first, *others = (frame.image for frame in frames)
    first.save(
        path,
        format='GIF',
        save_all=True,
        append_images=others,
        loop=0,
        duration=[_FRAME] * len(others) + [_LAST_FRAME],
    )


def animate(
    request_text: str,
    box_text: str,
    start: Xyz,
    output: Path,
    *,
    every: int = 1,
    max_frames: int = 200,
    max_steps: int | None = None,
    scale: int | None = None,
    follow: bool = False,
    quiet: bool = False,
) -> tuple[Grown, int]:
    """Grows one object and writes an animation of it.

    Args:
      request_text: InferenceRequest, text format or a file.
      box_text: BoundingBox, text format or a file.
      start: seed of the object, in coordinates of the volume.
      output: GIF to write.
      every: steps between frames.
      max_frames: maximum number of frames, at least 2; longer floods are thinned evenly.
      max_steps: maximum number of network steps.
      scale: pixels per voxel; default: by the size of the box.
      follow: cut the planes through the field of view instead of the start.
      quiet: no progress bar.

    Returns:
      The grown object and the number of frames.

    Raises:
      UserError: an input that does not fit.
    """
    config, box = read_config(request_text), read_box(box_text)
    with startup_messages_hidden():
        from ffn.models import precision

        precision.gpu_capability()
    with Runner(config) as runner:
        canvas = runner.open_canvas(box)
        start_zyx = start_in(canvas, start)
        view = FloodView(
            canvas, runner.info.input_image_size, start_zyx, follow=follow, scale=scale
        )
        recorder = Recorder(view, every, max_frames)
        with (
            atomic_path(output) as path,
            progress(total=max_steps, desc='growing', unit='step', quiet=quiet) as bar,
        ):

            def step(canvas: Canvas, position_zyx: Position) -> None:
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
