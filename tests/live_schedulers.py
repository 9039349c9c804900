"""Real schedulers on a real store: `fnrun serve --only scheduler`, which note who fired, and die when told."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from runtime.ledger.calls import do
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.records import Definition, Entry
from runtime.ledger.views import RunView
from tests.live_servers import Server
from tests.live_workers import Runs

SPY = """
    import os, signal
    from contextlib import suppress
    from pathlib import Path
    from redis.asyncio import Redis
    from runtime.ledger.calls import script

    ROOT = Path(__file__).parents[1]
    FIRED = os.open(ROOT / "fired", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    FIRE = script("schedules/fire")

    def strike(when: str) -> None:
        with suppress(FileNotFoundError):
            os.rename(ROOT / f"die {when}", ROOT / f"died {when}")
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(name: str) -> None:
        real = getattr(Redis, name)

        async def call(self, text, *args):
            if text not in (FIRE.sha, FIRE.text):
                return await real(self, text, *args)
            strike("before")
            answer = await real(self, text, *args)
            if answer == [] or (answer and b"fired" in answer):  # told is what was not simply fired
                strike("after")
                os.write(FIRED, f"{os.getpid()}\\n".encode())
            return answer

        setattr(Redis, name, call)

    watch("evalsha")
    watch("eval")
"""
"""A file of functions: it notes each fire that came to something, and has the process die at the next one."""


class SchedulerProcess(Server):
    """One. clock: how far its machine's clock is off, in seconds."""

    def __init__(self, root: Path, environ: dict[str, str], clock: float = 0.0) -> None:
        if clock:
            self.program = (sys.executable, str(Path(__file__).parent / "live" / "off_clock.py"), str(clock))
        super().__init__(root, "serve", environ={"FNRUN_LOG__FORMAT": "json", **environ}, roles="scheduler")

    def stands(self) -> bool:
        """Wait until it knows; whether it fires."""
        return self.wait_for_line('"event": "(schedules fire|schedules of a newer)')[1] == "schedules fire"

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.kill()
        self.wait()


class Schedulers:
    """Starts them, each in a project; what still runs at the end is killed."""

    def __init__(self, store_url: str) -> None:
        self._environ = {"FNRUN_STORE__URL": store_url}
        self.started: list[SchedulerProcess] = []

    def start(self, root: Path, *, clock: float = 0.0) -> SchedulerProcess:
        self.started.append(SchedulerProcess(root, self._environ, clock))
        return self.started[-1]

    def start_all(self, root: Path, count: int) -> list[SchedulerProcess]:
        """Several at once; they are there."""
        found = [self.start(root) for _ in range(count)]
        for one in found:
            one.stands()
        return found

    def living(self) -> list[SchedulerProcess]:
        return [one for one in self.started if one.process.poll() is None]

    def stop_all(self) -> None:
        """Those that still run end in good order; all have begun."""
        for one in self.living():
            assert one.stop() == 0


@contextmanager
def schedulers_on(store_url: str) -> Iterator[Schedulers]:
    """Schedulers on a store."""
    found = Schedulers(store_url)
    try:
        yield found
    finally:
        for one in found.started:
            one.close()


def write(root: Path, **files: str) -> Path:
    """A project, with the spy in it."""
    for name, text in {"spy": SPY, **files}.items():
        path = root / "functions" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return root


def who_fired(root: Path) -> list[int]:
    """The processes that fired, in their order."""
    file = root / "fired"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


class Ticks:
    """What became of a schedule."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.book = Book(runs.ledger)

    def of(self, function: str) -> list[RunView]:
        """All its runs, in the order of their planned times."""
        found: list[RunView] = []
        cursor = ""
        while True:
            page = do(self._runs.client, self._runs.ledger.runs([function], limit=1000, cursor=cursor))
            found += page.runs
            cursor = page.cursor
            if not cursor:
                return sorted(found, key=planned_ms)

    def entry(self, schedule: str) -> Entry:
        found = do(self._runs.client, self.book.show([schedule]))[0]
        assert found is not None
        return found

    def add(self, definitions: Sequence[Definition]) -> None:
        with self._runs.client.pipeline(transaction=False) as pipeline:
            for one in definitions:
                call = self.book.add(one)
                pipeline.eval(call.script.text, 0, *call.arguments)
            assert set(pipeline.execute()) == {b"added"}


def planned_ms(run: RunView) -> int:
    """Of a tick's run."""
    return int(run.id.rpartition("-")[2])


def check(runs: Sequence[RunView], entry: Entry) -> list[float]:
    """Each second from the first to the last has one run, and was fired once; how late each was accepted, in ms."""
    planned = [planned_ms(run) for run in runs]
    assert planned == list(range(planned[0], planned[0] + len(planned) * 1000, 1000))
    assert (entry.runs, entry.missed, entry.overlapped, entry.last_ms) == (len(runs), 0, 0, planned[-1])
    return [run.accepted * 1000 - at for run, at in zip(runs, planned, strict=True)]
