"""What is scheduled; functions.toml, which the benchmark writes, says when. Nobody runs it."""

from runtime import fn


@fn()
async def tick() -> None:
    pass
