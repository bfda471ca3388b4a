"""Keys that never print."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A key: shown nowhere, told only to whom it is for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")

    def told(self) -> str:
        """The key itself, for the one header it belongs into."""
        return self._value

    def blotted(self, text: str) -> str:
        """A text of the provider's in which the key does not occur."""
        return text.replace(self._value, "…")
