"""background.gather beside a model of what becomes of each."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import background
from runtime.base.sections import BackgroundSettings
from runtime.tasks.home import close_manager, open_manager

_ENDS = st.sampled_from(["value", "error", "slow", "exit", "cancel", "stubborn"])


@given(ends=st.lists(_ENDS, max_size=12), concurrency=st.integers(1, 5), cut=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_whatever_becomes_of_each_is_told_of_that_one(ends, concurrency, cut, seed):
    """What each does by itself decides its outcome, unless the time of all cut it off."""
    calls = _Calls(random.Random(seed))
    found, left = asyncio.run(_drive(calls, ends, concurrency, cut=cut))
    assert (len(found), left) == (len(ends), set())
    assert calls.began == sorted(calls.began)
    for index, (end, one) in enumerate(zip(ends, found, strict=True)):
        expected = {_OWN.get(end, "timeout")} if index in calls.began else {"not begun"}
        assert one.state in expected | ({"timeout"} if cut and index in calls.began else set())
        assert (one.value, one.error is None) == ((index, True) if one.state == "succeeded" else (None, False))
        assert cut or index in calls.began


_OWN = {"value": "succeeded", "error": "failed", "exit": "failed", "cancel": "cancelled"}


class _Calls:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.began: list[int] = []

    async def one(self, index: int, end: str) -> int:
        self.began.append(index)
        await asyncio.sleep(self.draw.choice([0, 0, 0.001]))
        raised = {"error": LookupError(index), "exit": SystemExit(index), "cancel": asyncio.CancelledError()}
        if end in raised:
            raise raised[end]
        if end in ("slow", "stubborn"):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if end == "slow":
                    raise
                return -index  # it swallows its cancellation, and ends
        return index


async def _drive(calls: _Calls, ends: list[str], concurrency: int, *, cut: bool):
    manager = open_manager(BackgroundSettings())
    found = await background.gather(
        calls.one,
        list(enumerate(ends)),
        concurrency=concurrency,
        task_timeout=None if cut else "100ms",
        total_timeout="80ms" if cut else None,
    )
    await close_manager(manager, 0)
    return found, asyncio.all_tasks() - {asyncio.current_task()}
