"""What a small project has: a call over HTTP, a queue, a schedule."""

from runtime import cron, fn, http, queue


@http.get("/hello", auth="public")
async def hello(name: str = "x") -> dict[str, str]:
    return {"message": name}


@queue("work")
async def work(x: int) -> int:
    return x


@fn()
@cron("0 6 * * *")
async def report() -> None:
    pass
