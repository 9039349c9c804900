"""The README and the docs, tried: files are written, commands run, answers compared.

A block ```python functions/x.py or ```toml functions.toml writes that file, a second one of the same name goes on with
it; a ```toml without a name is settings that must be valid. A block ```console runs each line after
"$ " against `fnrun dev` on these files and compares what it prints; "..." stands for anything; a ```python without a
name is only shown.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from runtime.base.settings import load_settings
from tests.conftest import ROOT
from tests.live_servers import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

_BLOCK = re.compile(r"^```(python|toml|console) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/howto.md",
    "docs/background.md",
    "docs/flows.md",
    "docs/schedules.md",
    "docs/idempotency.md",
    "docs/limits.md",
    "docs/secrets.md",
    "docs/access.md",
    "docs/alerts.md",
    "docs/celery.md",
    "docs/metrics.md",
    "docs/callbacks.md",
    "docs/logs.md",
    "docs/traces.md",
]


@pytest.mark.timeout(300)  # each command is a process, and there are dozens
@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_says_is_what_happens(page: str, tmp_path: Path, start):
    blocks = _BLOCK.findall((ROOT / page).read_text())
    for name, text in _sources(blocks).items():
        if (ROOT / name).exists():
            assert text == (ROOT / name).read_text(), f"{page} shows {name}, which is otherwise"
        _write(tmp_path / name, text)
    server = start(tmp_path, "dev", "--bind", "127.0.0.1:0", roles=None)
    port = server.port
    ran, fresh = 0, False
    for kind, name, text in blocks:
        if kind == "toml" and name:
            _write(tmp_path / name, text)
            server.wait_for_line('"event": "listening"')  # settings take a new process
            fresh = True
        if kind == "console":
            for command, expected in _commands(text):
                told = [_run(command, port, tmp_path)]
                if fresh and told[-1] != Like(expected):  # the process before it takes calls until it has heard
                    with suppress(AssertionError):
                        until(lambda: told.append(_run(command, port, tmp_path)) or told[-1] == Like(expected))  # noqa: B023
                assert told[-1] == Like(expected), command
                ran, fresh = ran + 1, False
    assert ran


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_a_page_shows_are_valid(page: str, tmp_path: Path):
    for kind, _, text in _BLOCK.findall((ROOT / page).read_text()):
        if kind == "toml":
            _write(tmp_path / "functions.toml", text)
            load_settings(tmp_path)


def _sources(blocks: list[tuple[str, str, str]]) -> dict[str, str]:
    files: dict[str, str] = {}
    for kind, name, text in blocks:
        if kind == "python" and name:
            files[name] = f"{files[name]}\n\n{text}" if name in files else text
    return files


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _commands(block: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, expected = found[-1]
            found[-1] = (command, f"{expected}{line}\n")
    return found


def _run(command: str, port: int, folder: Path) -> str:
    command = command.replace("localhost:8000", f"127.0.0.1:{port}")
    words = ["sh", "-c", command] if "$(" in command or " | " in command else shlex.split(command)
    if words[0] == "curl":
        return _line_end(_curl(words[1:], folder))
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FNRUN_LOG__LEVEL": "error"}
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    return _line_end(done.stdout) + done.stderr


def _line_end(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def _curl(words: list[str], folder: Path) -> str:
    """What curl would print: the few options that the docs use, so that the tests need no curl."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-L", action="store_true")
    parser.add_argument("-D", default="")
    parser.add_argument("-o", default="")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-F", action="append", default=[])
    parser.add_argument("-d", action="append", default=[])
    parser.add_argument("--data-binary")
    given = parser.parse_args(words)
    headers = dict(header.split(": ", 1) for header in given.H)
    content, files = given.data_binary, []
    if given.d:
        content = "&".join(given.d)
        headers = {"content-type": "application/x-www-form-urlencoded"} | headers
    for name, value in (part.split("=", 1) for part in given.F):
        path, _, filename = value.removeprefix("@").partition(";filename=")
        files.append((name, (filename, (folder / path).read_bytes()) if value.startswith("@") else (None, value)))
    method = "POST" if content is not None or files else "GET"
    with httpx.Client(follow_redirects=given.L, timeout=60) as client:  # a worker may still start
        found = client.request(method, f"http://{given.url}", headers=headers, content=content, files=files or None)
    head = "".join(f"{name}: {value}\n" for name, value in found.headers.items()) if given.D else ""
    return head + ("" if given.o else found.text)


class Like:
    """Equal to any text that fits, where "..." stands for anything."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __eq__(self, other: object) -> bool:
        parts = [re.escape(part) for part in self.pattern.split("...")]
        return isinstance(other, str) and re.fullmatch(".*?".join(parts), other, re.DOTALL) is not None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self.pattern
