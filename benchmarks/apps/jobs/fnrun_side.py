"""fnrun: submit() from many tasks at once. Its project and its store are in the environment."""

from datetime import UTC, datetime

from runtime import submit


async def send(task: str) -> None:
    await submit(f"jobs.{task}")


async def send_at(task: str, at: float) -> None:
    await submit.using(at=datetime.fromtimestamp(at, UTC))(f"jobs.{task}")
