"""Add two numbers: over HTTP, from a queue, and every morning."""

from runtime import cron, http, queue


@http.post("/sum")
@queue("sums")
@cron("0 6 * * *", payload={"x": 2, "y": 3})
def sum(x: float, y: float) -> dict[str, float]:  # noqa: A001 - the function's name is its address
    """Add x and y."""
    return {"result": x + y}
