"""What the docs page is tried on: an operation for each thing it has to show, or to send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec

from runtime import Body, Cookie, Event, PlainText, Query, UploadFile, http


class Address(msgspec.Struct):
    city: str


class Order(msgspec.Struct):
    sku: Annotated[str, msgspec.Meta(description="which article", examples=["A-1"])]
    qty: Annotated[int, msgspec.Meta(ge=1, le=99)] = 1
    to: Address | None = None


class Node(msgspec.Struct):
    name: str
    children: list["Node"] = []


@http.get("/hello/{name}")
async def hello(name: str, times: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1, loud: bool = False) -> dict[str, Any]:
    """Greet <b>somebody</b>.

    <script>window.hacked = 1</script>
    <img src=x onerror="window.hacked = 1">
    """
    return {"message": f"Hello {name}! " * times, "loud": loud, "exact": 2**60 + 1, "none": []}


@http.post("/orders", status=201)
async def order(order: Order, tag: Annotated[list[str], Query] = []) -> dict[str, Any]:  # noqa: B006
    return {"order": order, "tag": tag}


@http.post("/tree")
async def tree(node: Node) -> Node:
    return node


@http.post("/add")
async def add(x: int, y: int, how: Literal["plain", "twice"] = "plain") -> int:
    return (x + y) * (2 if how == "twice" else 1)


gates: list[asyncio.Event] = []


@http.get("/news")
async def news(go: str = "") -> AsyncIterator[Event]:
    """Two events; the second waits for a call of /news/next."""
    gates.append(asyncio.Event())
    yield Event({"n": 1}, id="1")
    await gates[-1].wait()
    yield Event({"n": 2}, id="2")


@http.post("/news/next")
async def next_news() -> None:
    gates[-1].set()


@http.get("/endless")
async def endless() -> AsyncIterator[str]:
    while True:
        yield "more\n"
        await asyncio.sleep(0.02)


@http.get("/broken")
async def broken() -> AsyncIterator[str]:
    yield "first\n"
    await asyncio.sleep(0.1)
    raise ValueError("in the middle")


@http.post("/upload")
async def upload(title: str, files: list[UploadFile]) -> dict[str, Any]:
    return {"title": title, "files": {one.filename: len(await one.read()) for one in files}}


@http.put("/raw")
async def raw(body: Annotated[bytes, Body]) -> bytes:
    return body


@http.delete("/items/{rest:path}")
async def remove(rest: str, session: Annotated[str, Cookie] = "none") -> PlainText:
    return f"{rest} of {session}"


@http.get("/page", auth="public")
async def page() -> PlainText:
    return "<i>as text</i>"
