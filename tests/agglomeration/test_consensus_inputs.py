"""What `ffn consensus` says of inputs of the first segmentation that may have been written since, or lie elsewhere."""

import os
import shutil

import pytest

from ffn.cli.consensus import main
from ffn.inference import box_run, storage
from ffn.utils.errors import UserError
from tests.inference import flood

DOUBT = 'image_written is volume.h5 of'


def test_a_touched_image_is_told_once_and_is_no_other_request(flood_folder, caplog):
    arguments = segment_forward(flood_folder)
    for seconds in (1, 2):
        os.utime(flood_folder / 'volume.h5', (seconds, seconds))
        caplog.clear()
        main(arguments)
        assert caplog.text.count(DOUBT) == 1
        assert 'request other than' not in caplog.text


def segment_forward(folder):
    """Leaves a segmentation in `one`; returns arguments for the consensus with its reverse, `two`, in `out`."""
    text = flood.write_request(folder)
    box_run.segment(text, 'start { x:0 y:0 z:0 } size { x:24 y:26 z:20 }', quiet=True)
    shutil.move(folder / 'results', folder / 'one')
    folders = ' '.join(
        f'segmentation{i} {{ directory: "{folder}/{name}" }}'
        for i, name in enumerate(('one', 'two'), 1)
    )
    request = f'{folders} segmentation_output_dir: "{folder}/out" type: CONSENSUS_SPLIT '
    return ['--consensus_request', request, '--inference_request', text, '--quiet']


def test_a_segmentation_that_was_moved_has_the_same_reverse(flood_folder):
    """But not one of other boxes, nor is the consensus itself known by more than the folders."""
    arguments = segment_forward(flood_folder)
    main(arguments)
    (flood_folder / 'one').rename(flood_folder / 'moved')
    arguments = [argument.replace('/one"', '/moved"') for argument in arguments]
    with pytest.raises(UserError, match=r'/out/.* of another request: segmentation1\.directory is'):
        main(arguments)
    elsewhere = [argument.replace('/out"', '/out2"') for argument in arguments]
    main(elsewhere)
    [path] = storage.subvolumes(flood_folder / 'moved').values()
    other = storage.subvolume_path(flood_folder / 'moved', (1, 2, 3), 'npz')
    other.parent.mkdir(parents=True)
    path.rename(other)
    with pytest.raises(UserError, match=r'seeds of another earlier run: .*moved.* is not known'):
        main(arguments)
