"""The notebook as it is committed, and as it runs."""

import base64
import io

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.conftest import ROOT
from tests.inference import flood

NOTEBOOK = ROOT / 'notebooks' / 'ffn_inference_demo.ipynb'
SAVE = 'np.savez({path!r}, mask=mask, segmentation=canvas.segmentation, start=start, EVERY=EVERY)'
# Away from the border of the volume, so that places in the box and in the volume differ.
CORNER_ZYX, SIZE_ZYX = (1, 0, 2), (19, 26, 36)
BOX = 'start { x: 2 y: 0 z: 1 } size { x: 36 y: 26 z: 19 }'
START = '12,18,6'  # in body 2


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_results(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert len(code) > 5
    for cell in code:
        assert cell.outputs == []
        assert cell.execution_count is None
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert notebook.metadata == {
        'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
        'language_info': {'name': 'python'},
    }


def test_settings_can_be_left_to_the_environment(notebook):
    text = '\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'markdown')
    for name in ('FFN_NOTEBOOK_REQUEST', 'FFN_NOTEBOOK_BOX', 'FFN_NOTEBOOK_START', 'make demo'):
        assert name in text


@pytest.fixture(scope='module')
def executed(tmp_path_factory, flood_network):
    """The notebook after it has run on the network that is set by hand, the truth, and arrays of it."""
    folder = tmp_path_factory.mktemp('notebook')
    (folder / 'flood').symlink_to(flood_network)
    truth = flood.write_volume(folder)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Before the last cell, which closes the image.
    save = nbformat.v4.new_code_cell(SAVE.format(path=str(folder / 'arrays.npz')))
    notebook.cells.insert(-1, save)
    modules = ('flood', 'recorder', 'overlay')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('FFN_NOTEBOOK_REQUEST', flood.write_request(folder))
        patch.setenv('FFN_NOTEBOOK_BOX', BOX)
        patch.setenv('FFN_NOTEBOOK_START', START)
        patch.setenv(
            'PYTHONWARNINGS', ','.join(f'error:::ffn.visualization.{name}' for name in modules)
        )
        # Nothing is left in the home folder.
        for name in ('JUPYTER_RUNTIME_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_CONFIG_DIR', 'IPYTHONDIR'):
            patch.setenv(name, str(folder / name.lower()))
        NotebookClient(
            notebook, timeout=120, kernel_name='python3',
            resources={'metadata': {'path': str(folder)}},
        ).execute()  # fmt: skip
    with np.load(folder / 'arrays.npz') as arrays:
        saved = dict(arrays)
    return notebook, truth, saved, folder


def outputs(notebook, name):
    """Pictures, int [rows, columns, 3], and text of a cell."""
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data['image/png'])))).astype(int)
        for output in cell.outputs
        if 'image/png' in output.get('data', {})
    ]
    text = ''.join(o.text for o in cell.outputs if o.output_type == 'stream' and o.name == 'stdout')
    return pictures, text


def orange(picture):
    """Pixels of the object; the frame of the field of view has more green."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return np.count_nonzero((red > blue + 60) & (green < 210))


def test_the_object_is_grown_and_shown(executed):
    notebook, truth, saved, _ = executed
    assert saved['start'].tolist() == [5, 18, 10]
    body = truth[1:20, :, 2:38] == 2
    assert not saved['mask'][~body].any()
    assert np.mean(saved['mask'][body]) > 0.85  # in large steps, not into every corner
    (before,), _ = outputs(notebook, 'box')
    (after,), text = outputs(notebook, 'grow')
    steps = int(text.split(' steps')[0])
    assert f' {np.count_nonzero(saved["mask"])} voxels; the start stayed above' in text
    assert steps > saved['EVERY']
    assert before.shape == after.shape
    (final,), _ = outputs(notebook, 'object')
    legend = 11 * 11
    assert orange(before) == 0
    assert abs(orange(after) - orange(final)) < 0.2 * orange(final) + legend
    assert orange(final) > 8 * 8 * 300


def test_the_rest_is_segmented_around_it(executed):
    notebook, truth, saved, folder = executed
    truth, found = truth[1:20, :, 2:38], saved['segmentation']
    assert found.shape == truth.shape == SIZE_ZYX
    np.testing.assert_array_equal(found == 1, saved['mask'])
    assert found.max() > 1
    for i in range(2, found.max() + 1):
        (body,) = np.unique(truth[found == i])
        assert body in (1, 3)
    assert np.mean(found[truth > 0] > 0) > 0.8
    (picture,), _ = outputs(notebook, 'segmentation')
    (alone,), _ = outputs(notebook, 'object')
    assert not np.array_equal(picture, alone)
    assert not (folder / 'results').exists()


def test_the_same_object_is_accepted_by_hand(executed):
    notebook, _, saved, _ = executed
    (picture,), text = outputs(notebook, 'by-hand')
    _, grown = outputs(notebook, 'grow')
    assert text.startswith(f'complete: {grown.split(" steps")[0]} steps')
    assert text.endswith('accepted as object 1\n')
    assert f'{np.count_nonzero(saved["mask"])} voxels' in text
    (alone,), _ = outputs(notebook, 'object')
    assert picture.shape == alone.shape


def test_nothing_is_printed_that_nobody_asked_for(executed):
    notebook, *_ = executed
    for cell in notebook.cells:
        for output in cell.get('outputs', []):
            assert output.get('name') != 'stderr', output.text
