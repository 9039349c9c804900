"""Money in whole cents, so that sums are exact."""

from decimal import ROUND_HALF_UP, Decimal

from runtime import Problem


def cents(amount: Decimal) -> int:
    """Round half up, as invoices do. A price may be written NaN, which no price is."""
    if not amount.is_finite():
        raise Problem(422, "a price is a number")
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def show(amount_cents: int, currency: str) -> str:
    """1234 -> "12.34 EUR"."""
    return f"{amount_cents // 100}.{amount_cents % 100:02d} {currency}"
