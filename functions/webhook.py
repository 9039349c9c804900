"""Receive signed webhooks, the way most services send them: HMAC-SHA256 of the raw body, in a header.

The secret comes from `[functions.webhook] env = { WEBHOOK_SECRET = "..." }` in functions.toml, or the environment.
"""

import hashlib
import hmac
from typing import Annotated, Any

import msgspec

from runtime import Body, Context, Header, Problem, http


class Event(msgspec.Struct):
    """What every delivery has; the rest is kept as it came."""

    id: str
    type: str
    data: dict[str, Any] = {}


@http.post("/webhook", auth="public", status=202, max_body="256kB")
async def webhook(
    body: Annotated[bytes, Body], ctx: Context, x_signature: Annotated[str, Header] = ""
) -> dict[str, str]:
    """Take one event. 401 if its signature is not ours."""
    secret = ctx.env.get("WEBHOOK_SECRET")
    if not secret:
        raise Problem(503, "this webhook has no secret yet", detail="set WEBHOOK_SECRET for it in functions.toml")
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), x_signature.encode()):
        raise Problem(401, "bad signature")
    try:
        event = msgspec.json.decode(body, type=Event)
    except msgspec.DecodeError as error:
        raise Problem(422, "not an event", detail=str(error)) from None
    ctx.log.info("webhook received", event_id=event.id, event_type=event.type)
    return {"received": event.id}
