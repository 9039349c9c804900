"""Watch an event loop: who holds it is named in the log, and who does not let go of it ends the process.

Begun by each role on its loop. A thread of its own looks four times a second whether the loop has turned; a handler
pays nothing for that. Its looks are the process's pulse, which the parent watches in turn (base/pulse).
"""

import asyncio
import gc
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextvars import Context as Variables
from types import FrameType

import msgspec

from runtime.base.logs import get_logger
from runtime.base.pulse import STUCK, Pulse
from runtime.declare.context import current
from runtime.observe import counts

log = get_logger(__name__)

_LOOK_SECONDS = 0.25
_END_SECONDS = 5.0
"""How long the process may take to hand back what it holds."""
_ORPHAN_SECONDS = 60.0
"""Beyond the limit. Whose interpreter is held does not notice that its parent has died: the kernel ends it then."""
_NO_NAME = re.compile(r"Task-\d+")
_MOST_FRAMES = 30
_BELOW = {"runtime.invoke.execute", "asyncio.runners", "asyncio.base_events", "asyncio.events", "threading"}


class Culprit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose code holds the loop: the function and its run; both "" where it is none's. task: its name, if it has one.

    A background task and a resource have one; the former's function is the one that it was begun by.
    """

    function: str = ""
    run_id: str = ""
    task: str = ""


OnStuck = Callable[[Culprit, float], bool]
"""Told, in the watchdog's thread, who has held the loop for so many seconds; whether the process is to end now."""


class Watchdog:
    """One a process. warn_seconds: from then on a block is told. limit_seconds: the process ends then; 0.0 for never.

    Until `serve` is called there is no limit, and no pulse: a start may take long.

    pulse: beaten as long as this thread runs. on_stuck: called before the end, to hand back what the process holds.
    """

    def __init__(
        self,
        *,
        warn_seconds: float,
        limit_seconds: float = 0.0,
        pulse: Pulse | None = None,
        on_stuck: OnStuck | None = None,
    ) -> None:
        self._warn_seconds = warn_seconds
        self._limit_seconds = limit_seconds
        self._pulse = pulse
        self._on_stuck = on_stuck
        self._ending = threading.Event()
        self._serving = False
        self._turns = 0
        self._turned = time.monotonic()
        self._seen = 0
        self._held_seconds = 0.0
        self._told = False
        self._seen_at_work: Counter[Culprit] = Counter()

    def begin(self) -> None:
        """Watch the loop that this is called on."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._turn()
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.pydev_do_not_trace = True  # type: ignore[attr-defined]  # a debugger shall not halt it with the others
        thread.start()

    def serve(self) -> None:
        """From now on handlers are at work; from any thread."""
        if self._pulse is not None:
            self._pulse.beat()  # now: the first handler may hold the interpreter
        self._serving = True

    def end(self) -> None:
        """Watch no longer; from any thread."""
        self._ending.set()

    def _turn(self) -> None:
        """On the loop: it has turned."""
        self._turns += 1
        self._turned = time.monotonic()
        if not self._ending.is_set():
            self._loop.call_later(_LOOK_SECONDS, self._turn)

    def _watch(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            if self._limit_seconds and self._serving:
                _end_without_looks(self._limit_seconds + _ORPHAN_SECONDS)
            try:
                self._look()
            except Exception:
                log.exception("the watchdog stumbled")
        _end_without_looks(0.0)
        if self._pulse is not None:
            self._pulse.rest()

    def _look(self) -> None:
        """Once. Time is counted in looks: if the whole process was frozen, nobody has held anything."""
        if self._pulse is not None and self._serving:
            self._pulse.beat()
        if self._turns != self._seen:
            self._note_turn()
            return
        self._held_seconds += _LOOK_SECONDS
        if self._held_seconds <= self._warn_seconds:
            return
        frame = sys._current_frames().get(self._loop_thread)
        self._seen_at_work[self._at_work()] += 1
        culprit = self._culprit()
        if not self._told:
            self._told = True
            self._say_held(culprit, frame)
        limit_seconds = self._limit_seconds if self._serving else 0.0
        if limit_seconds and self._held_seconds >= limit_seconds and not is_debugged(frame):
            self._give_up(culprit, frame)

    def _note_turn(self) -> None:
        if self._told:
            culprit, seconds = self._culprit(), round(self._held_seconds, 1)
            log.warning("the event loop goes on", **_told_of(culprit), seconds=seconds)
        self._seen = self._turns
        self._held_seconds = 0.0
        self._told = False
        self._seen_at_work.clear()

    def _culprit(self) -> Culprit:
        """Whoever was met most often while the loop was held."""
        return self._seen_at_work.most_common(1)[0][0]

    def _at_work(self) -> Culprit:
        """Whose code the loop runs now: what the context of its task says."""
        task = asyncio.current_task(self._loop)
        if task is None:
            return Culprit()
        name = "" if _NO_NAME.fullmatch(task.get_name()) else task.get_name()
        # Python 3.11 tells nobody a task's context, but to the garbage collector.
        for one in gc.get_referents(task):
            if isinstance(one, Variables) and (context := one.get(current)) is not None:
                return Culprit(context.function, context.run_id, name)
        return Culprit(task=name)

    def _say_held(self, culprit: Culprit, frame: FrameType | None) -> None:
        counts.blocked(culprit.function)
        log.error(
            "the event loop is held: nothing else goes on in this process; use a plain def, asyncio.to_thread or "
            "isolation for what blocks",
            **_told_of(culprit),
            seconds=round(self._held_seconds, 1),
            stack=stack_of(frame),
        )

    def _give_up(self, culprit: Culprit, frame: FrameType | None) -> None:
        """End the process, if it has nothing against it."""
        seconds = round(self._held_seconds, 1)
        if self._pulse is not None:
            self._pulse.rest()  # what follows may take a moment
        timer = threading.Timer(_END_SECONDS, os._exit, (STUCK,))
        timer.daemon = True
        timer.start()
        if self._on_stuck is not None and not self._on_stuck(culprit, seconds):
            timer.cancel()
            self.end()
            return
        log.error(
            "the event loop is held for too long; the process ends, and another takes its place",
            **_told_of(culprit),
            seconds=seconds,
            stack=stack_of(frame),
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STUCK)


def _end_without_looks(cpu_seconds: float) -> None:
    """Have the kernel end this process when it has computed for so long, on each of its cores, without a new look.

    Its computing is counted, not the time: one that was frozen for long shall go on. 0.0: have it not.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds * (os.cpu_count() or 1))


def _told_of(culprit: Culprit) -> dict[str, str]:
    told: dict[str, str] = msgspec.to_builtins(culprit)
    return told


def stack_of(frame: FrameType | None) -> str:
    """Where a thread is, from the loop's call on, the innermost last."""
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < _MOST_FRAMES and not _is_below(frame):
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return "".join(traceback.StackSummary.extract(reversed(frames)).format())


def _is_below(frame: FrameType) -> bool:
    """Whether a frame is the invoker's, the loop's or the thread's: the same on each stack."""
    return frame.f_globals.get("__name__") in _BELOW


def is_debugged(frame: FrameType | None) -> bool:
    """Whether a debugger follows this code: it is held on purpose then. Whoever only measures coverage is none."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    while frame is not None:
        module = getattr(frame.f_trace, "__module__", None) if frame.f_trace is not None else None
        if module is not None and not module.startswith("coverage"):
            return True
        frame = frame.f_back
    return False
