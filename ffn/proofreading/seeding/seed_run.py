"""What `ffn seed` does: a viewer in which objects are grown, until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from absl import logging

from ffn.inference.config import InferenceConfig
from ffn.inference.runner import Runner
from ffn.proofreading.seeding.look import Look
from ffn.proofreading.seeding.seeding import Seeding
from ffn.proofreading.seeding.seeding_actions import SeedingActions
from ffn.proofreading.viewing.agreement import agree
from ffn.proofreading.viewing.layers import Layer
from ffn.proofreading.viewing.samples import find_contrast
from ffn.proofreading.viewing.things import open_layer
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.signals import stop_on_signal, wait_for_stop

_ADVICE = 'set voxel_size in the request'


def serve(
    config: InferenceConfig, box: Box, image: str = '', labels: Sequence[str] = (), port: int = 0
) -> Look:
    """Serves a viewer for seeding until SIGINT, SIGTERM or SIGHUP; prints its address.

    Args:
      config: what objects are grown with; its segmentation_output_dir takes the result.
      box: what is seeded.
      image: volume that is shown instead of the configuration's.
      labels: volumes of labels, or folders of results, that are shown as well.
      port: of the viewer; 0 for any free one.

    Returns:
      What the session looks like in the end.

    Raises:
      UserError: something that does not fit, or cannot be shown.
    """
    if not config.segmentation_output_dir:
        raise UserError('give --output, as the request has no segmentation_output_dir')
    if config.options.join_fraction:
        raise UserError(
            'prefilled_join_fraction is set: an object that is accepted is one of its own; leave it out'
        )
    stop = threading.Event()
    with (
        Runner(config) as runner,
        Seeding(runner, box, config.results_folder) as seeding,
        Viewer(port, config.voxel_size) as viewer,
    ):
        for layer in shown_layers(config, image, labels):
            viewer.add(layer)
        viewer.show(seeding.box)
        with stop_on_signal(stop), SeedingActions(viewer, seeding):
            print(f'open {viewer.url}', flush=True)
            wait_for_stop(stop)
        return seeding.look()


def shown_layers(config: InferenceConfig, image: str, labels: Sequence[str]) -> list[Layer]:
    """Opens what is shown beside a session, each with the voxel size that it is stored with.

    The image of the request has the request's, as the session has; so has what is stored with none.

    Args:
      config: of the session.
      image: volume that is shown instead of the configuration's.
      labels: volumes of labels, or folders of results.

    Raises:
      UserError: something cannot be shown.
    """
    size = config.voxel_size
    first = _image_layer(config, image)
    if not image:
        first = replace(first, voxel_size=size or first.voxel_size)
    elif size is None and first.voxel_size is not None:
        logging.warning('the request has no voxel size; that of %s is taken: %s', image, _ADVICE)
    layers = [first, *(open_layer(spec, 'labels') for spec in labels)]
    return agree(layers, None, _ADVICE, size)


def _image_layer(config: InferenceConfig, given: str) -> Layer:
    as_stored = config.image.downsample is None and config.image.upsample is None
    if spec := given or config.image.spec * as_stored:
        return open_layer(spec, 'image', 'image')
    volume = config.image.open().single_channel()
    size = volume.voxel_size.xyz if volume.voxel_size else None
    return Layer('image', 'image', volume, size, volume.box, contrast=find_contrast(volume))
