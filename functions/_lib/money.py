"""Money in whole cents, so that sums are exact."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated

import msgspec

from runtime import Problem

_LIMIT = 10**9
Price = Annotated[
    Decimal,
    msgspec.Meta(
        description="Below a thousand million.",
        extra_json_schema={"minimum": 1 - _LIMIT, "maximum": _LIMIT - 1, "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$"},
    ),
]
"""A Decimal; msgspec has no limits for these, so `cents` keeps them, and the document is told."""


def cents(amount: Decimal) -> int:
    """Round half up, as invoices do. A price may be written NaN or 1e99, which no price is."""
    if not amount.is_finite() or abs(amount) >= _LIMIT:
        raise Problem(422, "a price is a number below a thousand million")
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def show(amount_cents: int, currency: str) -> str:
    """1234 -> "12.34 EUR"."""
    return f"{amount_cents // 100}.{amount_cents % 100:02d} {currency}"
