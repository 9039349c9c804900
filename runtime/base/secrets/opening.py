"""Open the encrypted values among settings, wherever they stand: in functions.toml, in files, in variables.

Used by the settings, once all layers lie over each other: what nobody reads need not be opened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.base.secrets.sealing import PREFIX
from runtime.base.secrets.vault import Vault


class Opening:
    """Opens what is encrypted among settings; in a sealed process it leaves that out. hidden: the paths of it."""

    def __init__(self, file: Path, vault: Vault, sources: Mapping[str, str]) -> None:
        self._file = file
        self._vault = vault
        self._sources = sources
        self.hidden: list[str] = []

    def open(self, path: str, node: Any) -> Any:
        """The same with everything open."""
        if isinstance(node, dict):
            below = {key: (f"{path}.{key}" if path else key, value) for key, value in node.items()}
            return {key: self.open(*one) for key, one in below.items() if not self._left_out(one[1])}
        if isinstance(node, list):
            opened = [(one, self.open(path, one)) for one in node if not self._left_out(one)]
            text = (
                self._sources.get(path, self._file.name) != self._file.name
            )  # a list as variables say it may be sealed as a whole
            return [part for was, now in opened for part in (split(now) if text and was != now else [now])]
        if not isinstance(node, str) or not node.startswith(PREFIX):
            return node
        self.hidden.append(path)
        if path == "store.url":
            return self._vault.reveal(path, node, self._where(path, node))
        return self._vault.open(path, node, self._where(path, node))

    def _left_out(self, node: Any) -> bool:
        return self._vault.sealed and isinstance(node, str) and node.startswith(PREFIX)

    def _where(self, path: str, text: str) -> str:
        source = self._sources.get(path, self._file.name)
        if source != self._file.name:
            return source
        before, found, _ = self._file.read_text("utf-8-sig").partition(text)
        return f"{source}:{before.count(chr(10)) + 1}" if found else source


def split(text: str) -> list[str]:
    """A list as variables say it: "a, b"."""
    return [part.strip() for part in text.split(",") if part.strip()]
