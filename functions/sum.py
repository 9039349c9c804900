from runtime import cron, http, queue


@http.post("/sum")
@queue("sums")
@cron("0 6 * * *", payload={"x": 2, "y": 3})
def sum(x: float, y: float) -> dict[str, float]:
    """Add x and y."""
    return {"result": x + y}
