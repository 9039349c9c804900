"""The three endpoints on fnrun."""

from runtime import http


@http.get("/hello", auth="public")
async def hello(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@http.get("/hello-sync", auth="public")
def hello_sync(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello {name}"}


@http.post("/sum", auth="public")
async def add(x: float, y: float) -> dict[str, float]:
    return {"result": x + y}
