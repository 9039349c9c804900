"""What a worker, its zygote and the zygote's cells tell each other, as bytes.

Used by invoke.isolation.zygote_client and invoke.isolation.talks, the worker's side, and by runtime.zygote and
runtime.cell, the other. Describes, does no I/O.

- Worker to zygote, over the line: orders, each ORDER.size bytes. FORK brings along a descriptor: the new cell's end of
  a socket pair, whose other end the worker keeps.
- Zygote to worker, over the line: reports, each REPORT.size bytes. READY has no number.
- Worker to cell, over their socket pair: a frame a job, the next one after the answer. Then the end of what it says.
- Cell to worker, for each job: BEGAN if it had to open something first, any number of PROGRESS frames, and of LINE
  frames (the id of a run, a line break, a line of its log as JSON), then the ANSWER, or LAST: the answer of a cell that
  shall get no more jobs. A frame is a HEAD and as many bytes as it says.
"""

import os
import signal
import struct

ORDER = struct.Struct("!cQ")
"""What to do, and the cell's number, which the worker has chosen."""
FORK, KILL = b"f", b"k"

REPORT = struct.Struct("!cQq")
"""What happened, to the cell of which number; a process id (STARTED), errno (FAILED) or wait status (ENDED)."""
READY, STARTED, FAILED, ENDED = b"r", b"s", b"x", b"e"

HEAD = struct.Struct("!cI")
"""The frame's kind, and how many bytes follow."""
JOB, BEGAN, PROGRESS, LINE, ANSWER, LAST = b"j", b"b", b"p", b"n", b"a", b"l"
LONGEST_FRAME = 1 << 30


def frame(kind: bytes, body: bytes) -> bytes:
    """A whole frame. OverflowError if the body is longer than LONGEST_FRAME bytes."""
    if len(body) > LONGEST_FRAME:
        raise OverflowError(f"{len(body)} bytes cannot be sent at once; {LONGEST_FRAME} can")
    return HEAD.pack(kind, len(body)) + body


def describe_end(status: int) -> str:
    """How a process ended, from its wait status: "exit code 3", "signal SIGSEGV"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"signal {-code}"
