"""A process that syncs a folder and kills itself after a while; run by test_crash.py."""

import os
import signal
import sys
import threading
import time

from reference_collection import WordEmbedder
from unabridged.collection import Collection
from unabridged.collection import sync as sync_module


class SlowEmbedder(WordEmbedder):
    def read(self, text):
        time.sleep(0.01)
        return super().read(text)


def main(folder: str, path: str, delay: float) -> None:
    sync_module.GROUP_CHARACTERS = 2_000
    with Collection.open(path, SlowEmbedder()) as collection:
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        collection.sync(folder)
    timer.cancel()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
