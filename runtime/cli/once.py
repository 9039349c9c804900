"""Call a function of this project here, unless a call with the key that its idempotent= gives has done it already.

Used by `fnrun invoke`. A function that says nothing of the kind needs no store, and opens none.
"""

import asyncio
from collections.abc import Awaitable, Callable

import click
import msgspec

from runtime import projects
from runtime.declare.markers import Reply
from runtime.invoke.idempotency import plan_key
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.results import Unencodable, encode_json


async def invoke_once(
    project: projects.Project, invocation: Invocation, invoke: Callable[[Invocation], Awaitable[Outcome]]
) -> Outcome:
    """How it ended, or what came of the call that had the key first. KeyFailed, StartError, StoreDown.

    ClickException while another call with its key is under way.
    """
    plan = plan_key(invocation.function)
    said = None if plan is None else plan.key_of(invocation.arguments)
    if said is None:
        return await invoke(invocation)
    from runtime.ledger.desk import open_desk  # noqa: PLC0415 - other functions need no store
    from runtime.ledger.once import key_of_function  # noqa: PLC0415 - as above

    name, key = invocation.function.name, key_of_function(invocation.function.name, said)
    desk = await asyncio.to_thread(open_desk, project.root, project.settings)
    try:
        found = await desk.holds.take(key, invocation.run_id, "", lambda: None)
        if found.verdict == "kept":
            if found.result is None:
                raise click.ClickException(f"{name} was called with this key, and its result is not kept as JSON")
            return Outcome(state="succeeded", value=msgspec.Raw(found.result))
        if found.verdict != "mine":
            raise click.ClickException(f"{name}: a call with the same key is under way; try again in a moment")
        outcome, is_mine = await invoke(invocation), True
        try:
            value = outcome.value.body if isinstance(outcome.value, Reply) else outcome.value
            result = encode_json(value) if outcome.state == "succeeded" and not outcome.fell_back else None
        except Unencodable:
            result = None
        if result is None:
            await desk.holds.release(key, invocation.run_id)
        else:
            is_mine = await desk.holds.keep(key, invocation.run_id, result=result)
        if not is_mine:
            raise click.ClickException(f"{name}: another call with the same key has taken over; its result counts")
        return outcome
    finally:
        await desk.aclose()
        desk.close()
