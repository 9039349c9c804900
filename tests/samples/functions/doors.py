"""Routes that are open, locked, or answer nothing but one method."""

from runtime import cron, fn, http, queue


@http.get("/open", auth="public")
async def open_door() -> str:
    return "open"


@http.get("/locked", auth="key")
async def locked() -> str:
    return "locked"


@http.post("/post-only", auth="public")
async def post_only(x: int = 0) -> int:
    return x


@queue("jobs")
@cron("0 6 * * mon-fri", tz="Europe/Paris", payload={"n": 1})
@fn(concurrency=2, timeout="5s")
async def job(n: int) -> int:
    return n * 2
