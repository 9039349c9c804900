"""Each night, and whatever was missed: what happened between the last tick that succeeded and this one."""

from datetime import timedelta

from runtime import Context, Tick, cron


@cron("30 3 * * *", tz="Europe/Paris", name="nightly", payload={"keep_days": 30}, missed="latest", overlap="skip")
async def tidy(keep_days: int, tick: Tick, ctx: Context) -> dict[str, str]:
    """Say which days would be tidied up. Its times come from the tick, so that a late run does the same work."""
    until = tick.planned_at - timedelta(days=keep_days)
    since = until - timedelta(days=1) if tick.last_success is None else tick.last_success - timedelta(days=keep_days)
    ctx.log.info("tidying", since=since, until=until, missed=tick.missed)
    return {"since": since.date().isoformat(), "until": until.date().isoformat()}
