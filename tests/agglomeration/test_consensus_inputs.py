"""What `ffn consensus` says of inputs of the first segmentation that may have been written since."""

import os
import shutil

from ffn.cli.consensus import main
from ffn.inference import box_run
from tests.inference import flood

DOUBT = 'image_written is volume.h5 of'


def test_a_touched_image_is_told_once_and_is_no_other_request(flood_folder, caplog):
    text = flood.write_request(flood_folder)
    box_run.segment(text, 'start { x:0 y:0 z:0 } size { x:24 y:26 z:20 }', quiet=True)
    shutil.move(flood_folder / 'results', flood_folder / 'one')
    folders = ' '.join(
        f'segmentation{i} {{ directory: "{flood_folder}/{name}" }}'
        for i, name in enumerate(('one', 'two'), 1)
    )
    request = f'{folders} segmentation_output_dir: "{flood_folder}/out" type: CONSENSUS_SPLIT '
    for seconds in (1, 2):
        os.utime(flood_folder / 'volume.h5', (seconds, seconds))
        caplog.clear()
        main(['--consensus_request', request, '--inference_request', text, '--quiet'])
        assert caplog.text.count(DOUBT) == 1
        assert 'request other than' not in caplog.text
