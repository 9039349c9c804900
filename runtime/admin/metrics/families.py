"""The metrics: names, labels and numbers, as prometheus_client writes them. Pure: what was counted and asked comes in.

Called by routes for each scrape. Each name is said in docs/metrics.md, and a test compares. A function that is known
has its name, all others are "other", so the number of series is bounded by what is loaded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from runtime.admin.metrics.machine import Usage
from runtime.admin.metrics.told import Told
from runtime.ledger.limits.views import LimitsView
from runtime.observe.board import BEGAN, BOUNDS, BUCKETS, RETRIED, SUM, VERDICTS, Process, Reading

_QUEUE_STATES = ("ready", "later", "running", "unknown", "limited")
_BREAKER_STATES = ("closed", "open", "half-open")


class Counter(CounterMetricFamily):
    """A number that only grows. names: of its labels."""

    def __init__(self, name: str, text: str, *names: str) -> None:
        super().__init__(name, text, labels=names)


class Gauge(GaugeMetricFamily):
    """A number that goes up and down. names: of its labels."""

    def __init__(self, name: str, text: str, *names: str) -> None:
        super().__init__(name, text, labels=names)


def families(
    version: str, reading: Reading, usages: Mapping[Process, Usage], told: Told | None, *, has_store: bool
) -> Iterator[Metric]:
    """All that there is to tell. told: None while the store is away."""
    info = Gauge("fnrun_info", "The runtime's version; always 1.", "version")
    info.add_metric((version,), 1)
    yield info
    yield from _calls(reading)
    yield from _ticks(reading)
    yield from _others(reading)
    yield from _at_work(reading)
    yield from _processes(reading.processes, usages)
    if has_store:
        up = Gauge("fnrun_store_up", "Whether the store answers: 1 or 0.")
        up.add_metric((), float(told is not None))
        yield up
    if told is not None:
        yield from _store(told)
        yield from _limits(told.limits)


def _calls(reading: Reading) -> Iterator[Metric]:
    labels = ("function", "trigger")
    calls = Counter("fnrun_invocations", "Calls and attempts of runs that have ended, and how.", *labels, "outcome")
    seconds = HistogramMetricFamily("fnrun_invocation_duration_seconds", "How long they took.", labels=labels)
    flying = Gauge("fnrun_invocations_in_flight", "Calls and attempts of runs at work.", *labels)
    retried = Counter("fnrun_retries", "Attempts of runs that failed and are followed by another.", *labels)
    for function, trigger, numbers in _rows(reading, "call"):
        names = (function, trigger)
        for at, verdict in enumerate(VERDICTS):
            calls.add_metric((*names, verdict), numbers[at])
        seconds.add_metric(names, *_buckets(numbers))
        flying.add_metric(names, max(0.0, numbers[BEGAN] - sum(numbers[: len(VERDICTS)])))
        retried.add_metric(names, numbers[RETRIED])
    yield from (calls, seconds, flying, retried)


def _ticks(reading: Reading) -> Iterator[Metric]:
    late = HistogramMetricFamily(
        "fnrun_tick_lateness_seconds", "How long after its time a tick became a run.", labels=("function",)
    )
    for function, _, numbers in _rows(reading, "late"):
        late.add_metric((function,), *_buckets(numbers))
    yield late
    yield _simple(reading, "missed", Counter("fnrun_ticks_missed", "Ticks that were skipped: too late.", "function"))
    blocked = Counter("fnrun_loop_blocked", "How often a handler has held its process's event loop.", "function")
    yield _simple(reading, "blocked", blocked)


def _simple(reading: Reading, kind: str, family: Counter) -> Metric:
    for function, _, numbers in _rows(reading, kind):
        family.add_metric((function,), numbers[0])
    return family


def _others(reading: Reading) -> Iterator[Metric]:
    fallbacks = Counter("fnrun_fallbacks", "Calls that were answered by their function's fallback.", "function")
    refused = Counter("fnrun_limit_refusals", "Calls that limits or an open breaker refused.", "function", "reason")
    overload = Counter("fnrun_overload_refusals", "Requests refused because a process had too much.", "cause")
    replaced = Counter("fnrun_process_replacements", "Processes that ended by themselves.", "role")
    by_name = {"fallback": fallbacks, "overload": overload, "replaced": replaced}
    for name, label, numbers in _rows(reading, "count"):
        if name in ("limit", "open"):
            refused.add_metric((label, "limit" if name == "limit" else "breaker"), numbers[0])
        elif name in by_name:
            by_name[name].add_metric((label,), numbers[0])
    yield from (fallbacks, refused, overload, replaced)


def _at_work(reading: Reading) -> Iterator[Metric]:
    threads = Gauge("fnrun_threads_busy", "Threads at work for plain functions.")
    background = Gauge("fnrun_background_tasks", "Background tasks, by state.", "state")
    for (_, name, label), numbers in sorted(reading.now.items()):
        if name == "threads":
            threads.add_metric((), numbers[0])
        elif name == "background":
            background.add_metric((label,), numbers[0])
    yield from (threads, background)


def _processes(processes: Iterable[Process], usages: Mapping[Process, Usage]) -> Iterator[Metric]:
    labels = ("role", "process")
    cpu = Counter("fnrun_process_cpu_seconds", "Time on processors, of each process.", *labels)
    rss = Gauge("fnrun_process_resident_memory_bytes", "Memory in use, of each process.", *labels)
    fds = Gauge("fnrun_process_open_fds", "Open file descriptors, of each process.", *labels)
    began = Gauge("fnrun_process_start_time_seconds", "When it began, in seconds since 1970.", *labels)
    for process in processes:
        names = (process.role, str(process.place))
        began.add_metric(names, process.began)
        usage = usages.get(process)
        if usage is not None:
            cpu.add_metric(names, usage.cpu_seconds)
            rss.add_metric(names, usage.rss_bytes)
            fds.add_metric(names, usage.fds)
    yield from (cpu, rss, fds, began)


def _store(told: Told) -> Iterator[Metric]:
    latency = Gauge("fnrun_store_latency_seconds", "How long the store took to answer this scrape's questions.")
    latency.add_metric((), told.seconds)
    workers = Gauge("fnrun_workers", "Workers that live, of the whole system.")
    workers.add_metric((), told.facts.workers)
    schedulers = Gauge("fnrun_schedulers", "Schedulers that live, of the whole system.")
    schedulers.add_metric((), told.facts.schedulers)
    yield from (latency, workers, schedulers)
    depth = Gauge("fnrun_queue_runs", "Open runs in a queue, by what they wait for.", "queue", "state")
    age = Gauge("fnrun_queue_oldest_age_seconds", "How long the oldest ready run of a queue has waited.", "queue")
    paused = Gauge("fnrun_queue_paused", "Whether a queue is paused: 1 or 0.", "queue")
    for queue in told.queues:
        for state in _QUEUE_STATES:
            depth.add_metric((queue.name, state), getattr(queue, state))
        age.add_metric((queue.name,), max(0.0, queue.age_seconds))
        paused.add_metric((queue.name,), float(queue.paused))
    yield from (depth, age, paused)
    runs = Gauge("fnrun_runs", "Runs that are kept; dead ones are dead letters.", "function", "state")
    for kept in told.facts.functions:
        for state in ("open", "finished", "dead"):
            runs.add_metric((kept.function, state), getattr(kept, state))
    yield runs


def _limits(limits: Iterable[LimitsView]) -> Iterator[Metric]:
    breaker = Gauge("fnrun_breaker_state", "1 for the state that a function's breaker is in.", "function", "state")
    held = Gauge("fnrun_limit_held", "Places of a function's limits that are taken.", "function")
    waiting = Gauge("fnrun_limit_waiting", "Calls and runs that wait for a function's limits.", "function")
    for view in limits:
        for state in _BREAKER_STATES:
            breaker.add_metric((view.function, state), float(view.breaker == state))
        held.add_metric((view.function,), view.held)
        waiting.add_metric((view.function,), view.waiting + view.callers)
    yield from (breaker, held, waiting)


def _rows(reading: Reading, kind: str) -> Iterator[tuple[str, str, list[float]]]:
    for (found, one, other), numbers in sorted(reading.sums.items()):
        if found == kind:
            yield one, other, numbers


def _buckets(numbers: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
    """Each bucket with all below it, and the sum."""
    found, total = [], 0.0
    for bound, number in zip((*map(str, BOUNDS), "+Inf"), numbers[BUCKETS:], strict=False):
        total += number
        found.append((bound, total))
    return found, numbers[SUM]
