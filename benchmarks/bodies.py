"""A client for large bodies: four threads that send or read as fast as the kernel takes it, with few system calls.

Called by compare, as a process of its own: wrk reads 8 kB at a time, and would be the slower side.

    python -P bodies.py PORT SECONDS METHOD PATH BODY     BODY: "@N" for N bytes, or nothing; prints one line of JSON
"""

import json
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # last: a file here has the name of a standard module

from load import HOST, request_bytes

THREADS = 4


def work(port: int, request: bytes, until: float, answered: list[int]) -> None:
    """Ask again and again until it is time; an answer counts when its last byte is there."""
    room = memoryview(bytearray(1 << 20))
    with socket.create_connection((HOST, port), timeout=30) as sock:
        while time.perf_counter() < until:
            sock.sendall(request)
            head = end = rest = b""
            while not end:
                got = sock.recv_into(room)
                if not got:
                    raise ConnectionResetError("the connection ended before its answer")
                head, end, rest = (head + bytes(room[:got])).partition(b"\r\n\r\n")
            if head.split(b" ", 2)[1] != b"200":
                raise SystemExit(f"answered {head!r}")
            left = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]) - len(rest)
            while left > 0:
                got = sock.recv_into(room, min(left, len(room)))
                if not got:
                    raise ConnectionResetError("the connection ended in a body")
                left -= got
            answered.append(1)


def main() -> None:
    port, seconds, method, path, body = int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:6]
    request = request_bytes(method, path, body)
    answered: list[int] = []
    failed: list[str] = []
    threading.excepthook = lambda args: failed.append(repr(args.exc_value))
    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(port, request, began + seconds, answered)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"a body failed: {failed[0]}")
    print(json.dumps({"requests": len(answered), "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
