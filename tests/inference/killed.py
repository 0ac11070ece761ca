"""Inference that is killed again and again, without any deep-learning framework.

    python -m tests.inference.killed FOLDER KILLS SEED MOMENT... BOX...

makes FOLDER/volume.h5 and segments the boxes (x,y,z,size_x,size_y,size_z) in FOLDER/results, two at
a time where there are several. The run is forked off, so that it begins within milliseconds, killed
KILLS times with SIGKILL after a random time, once at every MOMENT, and then let end. A moment such as
half:npz is in the middle of writing that file, before:npz and after:npz are around its being renamed
into place. Prints JSON: what the kills met.
"""

from __future__ import annotations

import collections
import io
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

import h5py
import numpy as np

from ffn.inference import box_run, storage
from ffn.inference.core import checkpoint
from ffn.models import precision
from ffn.utils import npz
from ffn.utils.npz import read_npz
from tests.inference.oracle import REQUEST, SeedNetwork, batched, stand_in

SHAPE_ZYX = (26, 38, 54)
# Network steps after which a run that is to be killed waits for it, and seconds between checkpoints:
# the steps take longer, so every run that is not killed before that gets on.
STEPS, STEP_S, CHECKPOINT_S = 60, 0.001, 0.015
MORE = 'batch_size: 2 concurrent_requests: 2'
OPTIONS = 'max_object_steps: 250'


def write_volume(folder: Path) -> None:
    """Three bodies, of which one takes more steps than an object may."""
    image = np.zeros(SHAPE_ZYX, np.uint8)
    image[1:-1, 1:18, 1:-1] = 1
    image[1:-1, 19:-1, 1:23] = 2
    image[1:-1, 19:-1, 25:-1] = 3
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = image


# In the process that is killed.


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, boxes: list[str], tell: int, moment: str, steps: float) -> None:
    """Segments the boxes; tells the parent what happens, one letter each."""
    network, made = SeedNetwork(), 0

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        nonlocal made
        made += 1
        if made == 1:
            os.write(tell, b's')
        time.sleep(STEP_S if made <= steps else 600)
        return batched(network)(images, seeds)

    sys.modules['ffn.models.predictor'] = stand_in(predict)
    precision.backend = precision.describe_device = lambda: 'none'
    save, restore, saver = (
        checkpoint.save_checkpoint,
        checkpoint.restore_checkpoint,
        checkpoint.Checkpointer,
    )

    def save_and_tell(*arguments):
        save(*arguments)
        os.write(tell, b'c')

    def restore_and_tell(*arguments):
        restore(*arguments)
        os.write(tell, b'r')

    checkpoint.save_checkpoint, checkpoint.restore_checkpoint = save_and_tell, restore_and_tell
    checkpoint.Checkpointer = lambda path, _, *rest: saver(path, CHECKPOINT_S, *rest)
    die_at(*moment.split(':')) if moment else None
    request = REQUEST.format(folder=folder) + MORE
    box_run.segment(request, boxes_text=' '.join(map(proto, boxes)), options_text=OPTIONS)


def proto(box: str) -> str:
    names = ' '.join(f'{n}: {{}}' for n in 'xyz')
    text = f'box {{{{ start {{{{ {names} }}}} size {{{{ {names} }}}} }}}}'
    return text.format(*box.split(','))


def die_at(when: str, ending: str) -> None:
    """Has the process kill itself when a file with this ending is written."""
    write, rename = npz.write_compressed, os.replace

    def half(file, **members):
        whole = io.BytesIO()
        write(whole, **members)
        data = whole.getvalue()
        if f'.{ending}.' in file.name:
            file.write(data[: len(data) // 2])
            file.flush()
            die()
        file.write(data)

    def replace(source, target):
        hit = str(target).endswith(f'.{ending}')
        if hit and when == 'before':
            die()
        rename(source, target)
        if hit:
            die()

    if when == 'half':
        npz.write_compressed = half
    else:
        os.replace = replace


# In the process that kills.


class Killer:
    """Starts runs and ends them, each by its number."""

    def __init__(self, folder: Path, boxes: list[str], rng: random.Random):
        self._folder, self._boxes, self._rng = folder, boxes, rng
        self._begun: set[Path] = set()
        self.met = collections.Counter()

    def fork(self, moment: str = '', steps: float = float('inf')) -> tuple[int, int]:
        """Starts a run; returns its process and where it tells what happens."""
        hear, tell = os.pipe()
        if child := os.fork():
            os.close(tell)
            return child, hear
        os.close(hear)
        status = 3
        try:
            log = os.open(self._folder / 'log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run(self._folder, self._boxes, tell, moment, steps)
            status = 0
        except BaseException:  # noqa: BLE001 - it must not go on as the parent
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill_at_random(self, number: int) -> None:
        """Kills a run: the first two at once, of the others every third after a new checkpoint."""
        child, hear = self.fork(steps=STEPS)
        until = b'' if number < 2 else b'c' if number % 3 == 0 else b's'
        heard = self._listen(hear, until)
        time.sleep(self._rng.uniform(0, 0.1 if number >= 2 else 0.01))
        os.kill(child, signal.SIGKILL)
        self._note(child, hear, heard, 'random')

    def let_run(self, moment: str = '') -> None:
        """Lets a run go on to a moment, or to its end."""
        child, hear = self.fork(moment)
        self._note(child, hear, self._listen(hear, b'end'), moment or 'end')

    @staticmethod
    def _listen(hear: int, until: bytes) -> bytes:
        """What a run tells up to these letters, or to its end."""
        heard = b''
        while until not in heard:
            if not select.select([hear], [], [], 60)[0]:
                raise SystemExit('a run does not get on')
            more = os.read(hear, 100)
            if not more:
                break
            heard += more
        return heard

    def _note(self, child: int, hear: int, heard: bytes, what: str) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        while more := os.read(hear, 100):
            heard += more
        os.close(hear)
        self.met[f'{what} {"killed" if status == -signal.SIGKILL else status}'] += 1
        self.met['resumed'] += b'r' in heard
        checkpoints = list(self._folder.glob('results/*/*/seg-*.cpoint'))
        self.met['before a checkpoint'] += not checkpoints
        self._begun.update(checkpoints)
        for path in self._begun - set(checkpoints):
            self.met['lost'] += not path.with_suffix('.npz').exists()
        for path in checkpoints:
            state = json.loads(read_npz(path, ['state'], [])['state'].item())
            self.met['in mid-object'] += state['growing'] is not None
        for path in self._folder.glob('results/*/*/seg-*'):
            whole = ['segmentation', 'qprob', 'origins', 'overlaps', 'counters', 'seed']
            read_npz(path, whole, [storage.OriginInfo])


def main() -> None:
    folder, kills, seed, *rest = sys.argv[1:]
    boxes = [text for text in rest if ',' in text]
    write_volume(Path(folder))
    killer = Killer(Path(folder), boxes, random.Random(int(seed)))
    for number in range(int(kills)):
        killer.kill_at_random(number)
    for moment in (text for text in rest if ':' in text):
        killer.let_run(moment)
    killer.let_run()
    loaded = {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)
    print(json.dumps({**killer.met, 'frameworks': sorted(loaded)}))


if __name__ == '__main__':
    main()
