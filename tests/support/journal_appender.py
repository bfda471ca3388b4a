"""A process to kill: appends from four threads and prints what was acknowledged."""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path
from threading import Thread

from assay.journal.writer import Journal

THREADS = 4
PADDING = b"x" * 500


def work(journal: Journal, thread: int) -> None:
    for number in count():
        record = b"%d:%d:" % (thread, number)
        journal.append(1 + number % 2, record + PADDING)
        os.write(1, record + b"\n")  # shorter than PIPE_BUF: never mixed with another thread's


if __name__ == "__main__":
    own = Journal(
        Path(sys.argv[1]), segment_bytes=1 << 16, mode="sync" if sys.argv[2] == "sync" else "write"
    )
    threads = [Thread(target=work, args=(own, thread)) for thread in range(THREADS)]
    for each in threads:
        each.start()
