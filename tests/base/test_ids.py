import os
import re
import sys
import threading
import time

import pytest

from runtime.base.ids import Trace, new_run_id, trace_of

RUN_ID = new_run_id()
CALLER = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def test_run_ids_are_unique():
    assert len({new_run_id() for _ in range(10_000)}) == 10_000


def test_no_two_threads_have_the_same_id():
    found: list[list[str]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: own.extend(new_run_id() for _ in range(20_000))) for own in found
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len({one for own in found for one in own}) == 80_000


def test_a_forked_process_has_ids_of_its_own():
    new_run_id()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, " ".join(new_run_id()[12:] for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 65_536).decode().split()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 100
    assert not {new_run_id()[12:] for _ in range(1000)} & set(theirs)


def test_run_ids_are_ordered_by_the_millisecond_they_were_made_in():
    before = time.time_ns() // 1_000_000
    ids = [new_run_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    times = [int(run_id[:12], 16) for run_id in ids]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after


def test_a_run_id_is_32_hex_digits():
    assert re.fullmatch(r"[0-9a-f]{32}", RUN_ID)


def test_a_run_without_a_caller_begins_a_trace_of_its_own_id():
    trace = trace_of(RUN_ID, None)
    assert trace == Trace(trace_id=RUN_ID, span_id=RUN_ID[16:], parent_id=None, flags="00")
    assert trace.traceparent == f"00-{RUN_ID}-{RUN_ID[16:]}-00"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_a_run_is_a_child_of_its_caller(flags):
    trace = trace_of(RUN_ID, f"00-{CALLER}-{SPAN}-{flags}")
    assert trace == Trace(CALLER, RUN_ID[16:], SPAN, flags)
    assert trace.traceparent == f"00-{CALLER}-{RUN_ID[16:]}-{flags}"


def test_what_a_run_passes_on_is_read_by_its_child():
    parent = trace_of(RUN_ID, None)
    child = trace_of(new_run_id(), parent.traceparent)
    assert (child.trace_id, child.parent_id) == (parent.trace_id, parent.span_id)


@pytest.mark.parametrize("header", [f"01-{CALLER}-{SPAN}-01", f"cc-{CALLER}-{SPAN}-01-what-comes-later"])
def test_a_future_version_is_read_as_far_as_it_is_known(header):
    trace = trace_of(RUN_ID, header)
    assert (trace.trace_id, trace.parent_id) == (CALLER, SPAN)
    assert trace.traceparent.startswith("00-")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{CALLER}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{CALLER}-{'0' * 16}-01",
        f"00-{CALLER}-{SPAN}-01-more",
        f"cc-{CALLER}-{SPAN}-01more",
        f"00-{CALLER}-{SPAN}",
        f"00-{CALLER.upper()}-{SPAN}-01",
        f"00-{CALLER[1:]}-{SPAN}-01",
        f"00-{CALLER}-{SPAN}0-01",
        f" 00-{CALLER}-{SPAN}-01",
        f"00-{CALLER}-{SPAN}-01\n",
        f"00-{CALLER}-{SPAN}-0g",
    ],
)
def test_a_malformed_header_begins_a_new_trace(header):
    assert trace_of(RUN_ID, header) == trace_of(RUN_ID, None)
