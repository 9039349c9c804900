"""What a function is given of the secrets: those that it names, by name. Shows none in its repr."""

from collections.abc import Iterator, Mapping

from typing_extensions import override

from runtime.base.errors import FnrunError
from runtime.base.secrets.masking import MASK


class NoSecret(FnrunError, KeyError):  # noqa: N818 - a state, as KeyError's others
    """A secret of that name is not there, or is not for who asks for it."""

    @override
    def __str__(self) -> str:
        return str(self.args[0])


class Secrets(Mapping[str, str]):
    """The values of the secrets that a function names. `secrets["X"]`; NoSecret, a KeyError, for any other."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    @override
    def __getitem__(self, name: str) -> str:
        try:
            return self._values[name]
        except KeyError:
            raise NoSecret(
                f'this function names no secret "{name}", so it is given none; write @fn(secrets=["{name}"])'
            ) from None

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    @override
    def __repr__(self) -> str:
        return f"Secrets({', '.join(f'{name}={MASK}' for name in self._values)})"


NO_SECRETS = Secrets()
