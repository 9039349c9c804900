"""Several routes in one file, with code shared from functions/_lib."""

from typing import Annotated, Literal

import msgspec

from functions._lib.money import Price, cents, show
from runtime import Html, http


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of an invoice."""

    text: str
    price: Price
    quantity: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1


class Total(msgspec.Struct):
    """What an invoice comes to."""

    customer: str
    cents: int
    shown: str


@http.post("/customers/{customer}/invoice")
def total(customer: str, lines: list[Line], currency: Literal["EUR", "USD"] = "EUR") -> Total:
    """Add up an invoice. Plain `def`: it runs in a thread.

    Example: two of one article
        {"customer": "c1", "lines": [{"text": "Tea", "price": "4.50", "quantity": 2}], "currency": "EUR"}
    """
    amount = sum(cents(line.price) * line.quantity for line in lines)
    return Total(customer=customer, cents=amount, shown=show(amount, currency))


@http.get("/reports/invoice/{number:int}", auth="public")
async def page(number: int) -> Html:
    """A small page."""
    return f"<!doctype html><title>Invoice {number}</title><h1>Invoice {number}</h1>"
