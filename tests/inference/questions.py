"""Floods of single questions, and what goes on with them: for tests of the executor."""

from __future__ import annotations

import time

from ffn.inference.core.counters import Counters


class Patch:
    """A field of view."""

    fov, value = (3, 4, 5), 0

    def show(self, image, seed):
        image[...], seed[...] = self.value, 0


QUESTION = Patch()


def slow(images, seeds):
    """A network that takes so long that the others come meanwhile."""
    time.sleep(0.001)
    return seeds


def ask(executor, image, seed):
    return executor.client(Counters()).predict(image, seed)


def run_threads(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
