"""Our own processes, by what they say of themselves: APIs are asked whether they are ready, all for their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from ops.doctor.finding import Finding, Findings, error, shortened, warning, well

LAG_S = 0.1
"""Where the alerts ApiLoopLags and WorkerLoopLags begin."""
LOOKS = 3
SLOTS = "streamgauge_worker_slots"
"""On every page of ours, and 0 on an API's."""
FULL = 0.9
SPARE_FILES = 100
"""What a process has open besides one connection a stream: servers, logs, libraries."""


@dataclass(frozen=True, slots=True)
class Page:
    """The metrics of one process, labels left out: the one of each name, or the sum."""

    values: Mapping[str, float]

    def get(self, name: str) -> float:
        """Give a metric's value, 0 where the process has none."""
        return self.values.get(name, 0.0)


async def metrics_of(http: httpx2.AsyncClient, url: str) -> Page:
    """Read a metrics page. Raises `httpx2.HTTPError` or `ValueError`."""
    answer = await http.get(url)
    answer.raise_for_status()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return Page(values)


async def examine_ready(http: httpx2.AsyncClient, api: str) -> Finding:
    """Ask an API whether it can serve messages."""
    check = f"api {api}"
    try:
        answer = await http.get(f"{api}/ready")
        parts = answer.json()
        missing = {name: part["detail"] for name, part in parts["dependencies"].items() if not part["ok"]}
    except httpx2.ReadTimeout as cause:
        return error(check, "gives no answer", shortened(cause), _unread(cause))
    except (httpx2.HTTPError, OSError) as cause:
        return error(check, "can't be reached", shortened(cause), "Start it: `python -m app.serve`; or correct --api.")
    except (ValueError, KeyError, TypeError, AttributeError):
        return error(check, "is none of our APIs", f"/ready: {answer.status_code}", "Correct --api.")
    if missing:
        shown = "; ".join(f"{name}: {detail}" for name, detail in missing.items())
        return error(check, "is up and lacks a server", shown, "Mend that server, or the API's own address of it.")
    if answer.status_code != httpx2.codes.OK:
        return warning(check, f"is {parts['status']}", f"/ready: {answer.status_code}", "Send new viewers to another.")
    return well(check, "is ready")


async def examine_page(http: httpx2.AsyncClient, name: str, url: str) -> Findings:
    """Examine what one process says of itself at its metrics' URL."""
    try:
        page = await metrics_of(http, url)
        lag = await _least_lag(http, url, page)
    except (httpx2.HTTPError, OSError, ValueError) as cause:
        yield warning(f"{name} metrics", "can't be read", f"{url}: {shortened(cause)}", _unread(cause))
        return
    slots = page.get(SLOTS)
    kind = name.partition(" ")[0]
    if SLOTS not in page.values or (kind == "worker") != bool(slots):
        yield warning(f"{name} metrics", f"are no {kind}'s", f"{url}: {SLOTS} {slots:.0f}", f"Correct --{kind}.")
        return
    yield _lag(name, lag)
    yield _files(name, page)
    yield _pool(name, page)
    if page.get("streamgauge_store_away"):
        yield warning(
            f"{name} store",
            "sends new messages to polling, since it finds the chunk store away",
            "streamgauge_store_away 1",
            "Mend the store. It is used again STREAMGAUGE_STORE_BACK_S (10 s) after it is well; if this stays, compare "
            "this process's REDIS_URL and its way there.",
        )
    if slots and page.get("streamgauge_streams_producing") > FULL * slots:
        yield warning(
            f"{name} slots",
            "has hardly a slot left: messages wait",
            f"{page.get('streamgauge_streams_producing'):.0f} of {slots:.0f} streams",
            "Start more workers, or raise STREAMGAUGE_WORKER_CONCURRENCY where its processor has room.",
        )


def _unread(cause: Exception) -> str:
    if isinstance(cause, httpx2.ReadTimeout):
        return (
            "It takes connections and answers nothing: continue it if it is stopped (state T in `ps`: kill -CONT it); "
            "else see what blocks it: `py-spy dump --pid PID`."
        )
    return "Correct the URL, or start it; where it answers 401 or 403, set STREAMGAUGE_METRICS_TOKEN to its token."


def _loop_lag(page: Page) -> float:
    return max(page.get("streamgauge_api_loop_lag_seconds"), page.get("streamgauge_worker_loop_lag_seconds"))


async def _least_lag(http: httpx2.AsyncClient, url: str, page: Page) -> float:
    """Look again at a loop that is late, once it has measured anew: one late moment is a busy host's."""
    least, seen = _loop_lag(page), {_loop_lag(page)}
    while least > LAG_S and len(seen) < LOOKS:
        again = _loop_lag(await metrics_of(http, url))
        least = min(least, again)
        seen.add(again)
    return least


def _lag(name: str, lag: float) -> Finding:
    if lag > LAG_S:
        return warning(
            f"{name} loop",
            "its event loop runs late: each of its streams waits",
            f"{lag * 1000:.0f} ms in {LOOKS} looks",
            "Start more processes, or find what blocks it: `py-spy dump --pid PID`. See ops/runbooks/ApiLoopLags.md.",
        )
    return well(f"{name} loop", f"its event loop runs {lag * 1000:.0f} ms late")


def _files(name: str, page: Page) -> Finding:
    check, most, used = f"{name} files", page.get("process_max_fds"), page.get("process_open_fds")
    slots = page.get(SLOTS)
    fix = "Raise its limit of open files: `ulimit -n`, LimitNOFILE= of systemd, ulimits: of compose."
    if most and slots and slots + SPARE_FILES > most:
        return error(
            check,
            f"may open {most:.0f} files, and would answer {slots:.0f} streams, each with a connection to the model",
            f"process_max_fds {most:.0f}, streamgauge_worker_slots {slots:.0f}",
            f"{fix} Or set STREAMGAUGE_WORKER_CONCURRENCY to {max(1, most - SPARE_FILES):.0f} at most.",
        )
    if most and used > FULL * most:
        return error(check, "has hardly an open file left", f"{used:.0f} of {most:.0f}", fix)
    return well(check, f"{used:.0f} of {most:.0f} files are open")


def _pool(name: str, page: Page) -> Finding:
    check, size = f"{name} pool", page.get("streamgauge_database_pool_size")
    used = page.get("streamgauge_database_connections")
    evidence = f"{used:.0f} of {size:.0f} connections are in use"
    if size and used > FULL * size:
        return warning(
            check,
            "its database pool is full: requests wait for a connection",
            evidence,
            "See what is said of the database's locks; else raise STREAMGAUGE_DATABASE_POOL or start more processes.",
        )
    return well(check, evidence)
