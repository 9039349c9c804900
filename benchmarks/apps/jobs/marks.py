"""Where a task tells that it runs: eight bytes a time, the same for all sides, seen from outside.

A write of this size to a file opened to append is one step, whoever else writes; it takes about a microsecond.
"""

import os
import struct
import time

_FILE = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_PACK = struct.Struct("d").pack


def mark() -> None:
    os.write(_FILE, _PACK(time.time()))
