from typing import Annotated

import msgspec

from runtime import cron, http, queue

Number = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]  # so that no sum is infinite, which JSON has no word for


@http.post("/sum")
@queue("sums")
@cron("0 6 * * *", payload={"x": 2, "y": 3})
def sum(x: Number, y: Number) -> dict[str, float]:
    """Add x and y."""
    return {"result": x + y}
