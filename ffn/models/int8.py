"""A network in 8-bit integers, run by OpenVINO: half the time of bfloat16 on processors with VNNI instructions.

The graph is that of the network itself, whichever it is. Each convolution but the first and the last multiplies
8-bit activations by 8-bit weights; those two, sums and logits stay in bfloat16. Weights are scaled by output channel;
activations by one number per convolution, the range, which `measure_ranges` finds on fields of view of the image
that is to be segmented.

Quantization with integers: Jacob et al., arXiv:1712.05877.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffn.models.precision import backend, cpu_has_bfloat16
from ffn.utils.errors import UserError

if TYPE_CHECKING:
    from ffn.models.model import FFNModel

# Ranges are so much larger than what was seen, for what the rest of the image may bring.
_MARGIN = 1.25
_INSTALL = "pip install 'flood-filling-networks[openvino]'"

# (images, seeds), both float32 [b, z, y, x, 1] → logits of that shape.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def check_int8() -> None:
    """Checks that this machine computes networks in 8-bit integers.

    Raises:
      UserError: no VNNI instructions, another backend of Keras than TensorFlow, or OpenVINO is not installed.
    """
    advice = "use precision 'bfloat16' or 'auto'"
    if not _has_vnni():
        raise UserError(
            f'precision int8 needs a processor with VNNI instructions, which this one lacks; {advice}'
        )
    if backend() != 'tensorflow':
        raise UserError(
            f'precision int8 needs KERAS_BACKEND=tensorflow, and it is {backend()}; {advice}'
        )
    _openvino()


def _has_vnni() -> bool:
    with contextlib.suppress(OSError):
        return (
            re.search(r'\b(avx512_vnni|avx_vnni)\b', Path('/proc/cpuinfo').read_text()) is not None
        )
    return False


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UserError(f'precision int8 needs the package openvino: {_INSTALL}') from error
    return openvino


@functools.cache
def _core() -> Any:
    """OpenVINO's runtime, once for the process.

    Each gives signal handlers a stack of its own and puts back the one before. Of two that end in the order in which they
    began, the second puts back what the first has freed, and the next signal, for example SIGTERM, ends in a segmentation fault.
    """
    return _openvino().Core()


def measure_ranges(
    model: FFNModel, images: Sequence[np.ndarray], seeds: Sequence[np.ndarray]
) -> tuple[float, ...]:
    """Measures how large the activations become that int8 has to hold.

    Args:
      model: the network.
      images: float32 [z, y, x], fields of view, normalized.
      seeds: float32 [z, y, x], the logits that the network is shown with each.

    Returns:
      The range of each convolution that is to be quantized, in the order of the graph; 1 where activations are 0.
    """
    graph = _read_graph(model)
    from openvino import opset13 as ops

    tops = [
        ops.reduce_max(ops.abs(conv.input_value(0)), np.arange(5)).output(0)
        for conv in _inner_convolutions(graph)
    ]
    graph.add_outputs(tops)
    run = _compile(graph, 1, 'f32')
    found = [
        run(image[None, ..., None], seed[None, ..., None])[1:]
        for image, seed in zip(images, seeds, strict=True)
    ]
    return tuple(float(np.float32(_MARGIN * top)) or 1.0 for top in np.max(found, axis=0))


def make_predictor(model: FFNModel, ranges: Sequence[float]) -> Predict:
    """Compiles a network for inference in 8-bit integers.

    Args:
      model: the network; its weights are those of now.
      ranges: as `measure_ranges` found them.

    Returns:
      (images, seeds), both float32 [b, z, y, x, 1] → new logits, float32 of the same shape.

    Raises:
      UserError: the ranges are not as many as the network has convolutions to quantize, or not positive.
    """
    graph = _read_graph(model)
    convolutions = _inner_convolutions(graph)
    if len(ranges) != len(convolutions) or not all(0 < top < np.inf for top in ranges):
        raise UserError(
            f'int8_ranges holds {len(ranges)} numbers, and this network needs {len(convolutions)} that are positive; '
            'leave the field out, and they are found anew'
        )
    for convolution, top in zip(convolutions, ranges, strict=True):
        _quantize(convolution, top)
    rest = 'bf16' if cpu_has_bfloat16() else 'f32'
    compiled: dict[int, Callable[..., list[np.ndarray]]] = {}

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        size = len(images)
        if size not in compiled:
            compiled[size] = _compile(graph, size, rest)
        return compiled[size](images, seeds)[0]

    return predict


def _read_graph(model: FFNModel) -> Any:
    """The network as OpenVINO has it: parameters image and seed, [b, z, y, x, 1]."""
    import tensorflow as tf
    from keras.export import ExportArchive

    core = _core()
    from openvino.passes import ConstantFolding, Manager

    fov = model.info.input_image_size.zyx
    spec = [tf.TensorSpec((None, *fov, 1), tf.float32, name=name) for name in ('image', 'seed')]
    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint('serve', lambda image, seed: model((image, seed), training=False), spec)
    with tempfile.TemporaryDirectory() as folder:
        with _unheard():
            archive.write_out(folder)
        graph = core.read_model(folder)
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)
    _add_sums(graph)
    return graph


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Hides what Keras and TensorFlow tell of the files that they write, and puts back the log's level, which they change."""
    log = logging.getLogger('absl')
    level, disabled = log.level, logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        log.setLevel(level)


def _add_sums(graph: Any) -> None:
    """Writes a - (-b) as a + b, which OpenVINO computes together with the convolution before it."""
    from openvino import opset13 as ops

    for difference in graph.get_ordered_ops():
        if difference.get_type_name() != 'Subtract':
            continue
        negative = difference.input_value(1).get_node()
        if negative.get_type_name() == 'Negative':
            total = ops.add(difference.input_value(0), negative.input_value(0))
            difference.output(0).replace(total.output(0))


def _inner_convolutions(graph: Any) -> list[Any]:
    """All but the first, which sees image and logits, and the last, which makes logits."""
    found = [op for op in graph.get_ordered_ops() if op.get_type_name() == 'Convolution']
    return found[1:-1]


def _quantize(convolution: Any, top: float) -> None:
    """Rounds both factors of a convolution to 256 levels, of which OpenVINO makes 8-bit integers."""
    from openvino import opset13 as ops

    data, weights = convolution.input_value(0), convolution.input_value(1)
    # Negative numbers have one level more than positive ones.
    lowest = 0.0 if data.get_node().get_type_name() == 'Relu' else -top * 128 / 127
    low, high = np.float32(lowest), np.float32(top)
    rounded = ops.fake_quantize(data, low, high, low, high, 256)
    values = weights.get_node().get_data()
    limit = np.maximum(
        np.abs(values).max(axis=(1, 2, 3, 4), keepdims=True), np.finfo(np.float32).tiny
    )
    scaled = ops.fake_quantize(weights, -limit, limit, -limit, limit, 255)
    convolution.input(0).replace_source_output(rounded.output(0))
    convolution.input(1).replace_source_output(scaled.output(0))


def _compile(
    graph: Any, batch: int, precision: str
) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
    """Compiles a graph for batches of one size; (images, seeds) → its outputs."""
    graph = graph.clone()
    graph.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in graph.inputs})
    hints = {
        'INFERENCE_PRECISION_HINT': precision,
        'PERFORMANCE_HINT': 'LATENCY',
        # Processes that share a machine would all choose the same processors.
        'ENABLE_CPU_PINNING': False,
    }
    request = _core().compile_model(graph, 'CPU', hints).create_infer_request()

    def run(images: np.ndarray, seeds: np.ndarray) -> list[np.ndarray]:
        request.infer({'image': images, 'seed': seeds})
        return [output.data.copy() for output in request.output_tensors]

    return run
