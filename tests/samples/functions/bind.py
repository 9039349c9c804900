"""Every way a parameter can be read."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec

from runtime import Body, Context, Cookie, Header, Query, Request, http


class Order(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    qty: Annotated[int, msgspec.Meta(ge=1)] = 1


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    name: str


@dataclass
class Point:
    x: int
    y: int = 0


class Address(TypedDict):
    city: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@http.post("/struct")
async def struct(order: Order) -> Order:
    return order


@http.post("/orders/{customer}")
async def mixed(customer: str, order: Order, notify: bool = False) -> dict[str, Any]:
    return {"customer": customer, "order": order, "notify": notify}


@http.post("/two")
async def two(order: Order, point: Point) -> list[Any]:
    return [order, point]


@http.post("/dataclass")
async def a_dataclass(point: Point) -> Point:
    return point


@http.post("/typeddict")
async def a_typeddict(address: Address) -> Address:
    return address


@http.post("/dict")
async def a_dict(data: dict[str, int]) -> dict[str, int]:
    return data


@http.post("/mapping")
async def a_mapping(data: Mapping[str, Any]) -> Any:
    return data


@http.post("/list")
async def a_list(orders: list[Order]) -> int:
    return len(orders)


@http.post("/union")
async def union(pet: Cat | Dog) -> str:
    return type(pet).__name__


@http.post("/optional")
async def optional(order: Order | None = None) -> Any:
    return order


@http.post("/whole")
async def whole(numbers: Annotated[list[int], Body]) -> int:
    return sum(numbers)


@http.post("/raw")
async def raw(body: Annotated[bytes, Body]) -> bytes:
    return body


@http.post("/text")
async def text(body: Annotated[str, Body]) -> str:
    return body


@http.post("/raw-optional")
async def raw_optional(body: Annotated[bytes, Body] = b"none") -> bytes:
    return body


@http.post("/scalars")
async def scalars(  # noqa: PLR0917 - authors may
    count: int,
    when: datetime,
    day: date,
    key: UUID,
    price: Decimal,
    colour: Colour,
    size: Literal["s", "m"] = "m",
    tags: list[str] | None = None,
) -> dict[str, Any]:
    assert isinstance(when, datetime)
    assert isinstance(key, UUID)
    assert isinstance(price, Decimal)
    return {"count": count, "when": when, "day": day, "key": key, "price": price, "colour": colour,
            "size": size, "tags": tags}  # fmt: skip


@http.get("/query")
async def query(
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10,
    tag: list[str] = [],  # noqa: B006 - as authors write it
    only: bool | None = None,
    ratio: float = 0.5,
    page_size: Annotated[int, Query("page-size")] = 1,
) -> dict[str, Any]:
    return {"limit": limit, "tag": tag, "only": only, "ratio": ratio, "page": page_size}


@http.get("/decimals")
async def decimals(d: list[Decimal]) -> int:
    return len(d)


@http.get("/needs")
async def needs(a: int, b: int, agent: Annotated[str, Header("x-agent")]) -> list[Any]:
    return [a, b, agent]


@http.get("/headers")
async def headers(
    x_agent: Annotated[str, Header],
    x_many: Annotated[list[int], Header] = [],  # noqa: B006
    session: Annotated[str | None, Cookie] = None,
) -> dict[str, Any]:
    return {"agent": x_agent, "many": x_many, "session": session}


@http.get("/paths/{name}/{number:int}/{key:uuid}/{ratio:float}/{rest:path}")
async def paths(name: str, number: int, key: UUID, ratio: float, rest: str) -> list[Any]:
    return [name, number, key, ratio, rest]


@http.get("/untyped/{number:int}/{text}")
async def untyped(number, text):
    return [number, text]


@http.get("/typed/{number}")
async def typed(number: int) -> int:
    return number


@http("/methods", methods=["GET", "POST", "DELETE"])
async def methods(request: Request, value: int = 0) -> list[Any]:
    return [request.method, value]


@http("/request/{name}", methods=["PUT"])
async def request(request: Request, ctx: Context) -> dict[str, Any]:
    return {
        "path": request.path,
        "params": request.path_params,
        "query": request.query,
        "header": request.headers["x-test"],
        "cookies": request.cookies,
        "json": await request.json(),
        "client": request.client,
        "scheme": request.scheme,
        "run_id": ctx.run_id,
    }


@http.post("/upload", max_body="2kB")
async def upload(request: Request) -> int:
    return sum([len(part) async for part in request.stream()])


@http.get("/context")
def context(ctx: Context) -> dict[str, Any]:
    assert Context.current() is ctx
    ctx.log.info("a line of the handler's")
    return {
        "run_id": ctx.run_id,
        "function": ctx.function,
        "trigger": ctx.trigger,
        "attempt": ctx.attempt,
        "deadline": ctx.deadline,
        "cancelled": ctx.cancelled,
        "traceparent": ctx.traceparent,
        "home": ctx.env["WHERE"],
    }
