"""Strikes a running stack with one fault after the other while crowds stream on every backend."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from anyio.from_thread import BlockingPortal, start_blocking_portal

from loadtest.wording import counted
from ops.chaos.crowd import Crowd
from ops.chaos.matrix import Cell, cell
from ops.chaos.scenarios import LEASE_AND_GRACE_S, Scenario
from ops.processes import StackError
from ops.stack import Stack

SHORT = "ttft=0.05&gap=0.05&chunks=20"
LIMIT_S = 180.0
"""How long after its POST a stream may take to end: a redelivery, lease and grace, and the answer fit in it twice."""
SETTLERS = 8
"""Messages to each backend that must come whole before a fault: enough that every API gets some."""
TRICKLE_S = 0.5
LIVE_S = 120.0
"""Eight answers long: streams that end while others begin are replaced until so many run at once."""
SETTLE_S = LEASE_AND_GRACE_S
POLL_S = 0.05


@dataclass(frozen=True)
class Plan:
    """What to strike, and how many streams live on each backend meanwhile."""

    scenarios: Sequence[Scenario]
    backends: Sequence[str]
    default_backend: str
    streams: int


def run_chaos(stack: Stack, plan: Plan, tell: Callable[[str], None], report: Callable[[Cell], None]) -> list[Cell]:
    """Run every scenario in turn on this stack. `tell` hears what is going on, `report` of each cell.

    Faults strike from this thread, which must be the one that owns the stack: Linux ends children with the thread
    that made them. The crowd lives in a thread of its own.
    """
    cells = list[Cell]()
    with start_blocking_portal("asyncio", {"use_uvloop": True}) as portal:
        for number, scenario in enumerate(plan.scenarios, 1):
            tell_of = partial(_tell, tell, f"{number}/{len(plan.scenarios)} {scenario.name}")
            tell_of("waiting until all is well")
            _settle(portal, stack, plan)
            for found in _strike(portal, stack, plan, scenario, tell_of):
                cells.append(found)
                report(found)
    return cells


def _tell(tell: Callable[[str], None], name: str, what: str) -> None:
    tell(f"{name}: {what}")


def _strike(
    portal: BlockingPortal, stack: Stack, plan: Plan, scenario: Scenario, tell: Callable[[str], None]
) -> list[Cell]:
    with portal.wrap_async_context_manager(Crowd.gather(stack.api_urls, plan.default_backend, LIMIT_S)) as crowd:
        try:
            portal.call(crowd.fill_up, plan.backends, plan.streams, scenario.script, scenario.leave_s, LIVE_S)
        except TimeoutError:
            raise _in_vain(
                LIVE_S, f"{counted(plan.streams, 'stream')} to run on each backend before the fault"
            ) from None
        tell(f"running: {counted(crowd.live(), 'stream')}; {scenario.what}")
        over = portal.call(asyncio.Event)
        trickle = portal.start_task_soon(crowd.trickle, plan.backends, scenario.script, TRICKLE_S, over)
        try:
            scenario.strike(stack)
        finally:
            portal.call(over.set)
        trickle.result()
        while crowd.waiting:
            tell(f"waiting for {counted(crowd.waiting, 'stream')}")
            stack.check()
            time.sleep(POLL_S)
        return [cell(scenario, backend, crowd) for backend in plan.backends]


def _settle(portal: BlockingPortal, stack: Stack, plan: Plan) -> None:
    """Return once every backend answers messages whole and by itself again; a busy machine may do so slowly."""

    def is_well() -> bool:
        stack.check()
        with portal.wrap_async_context_manager(Crowd.gather(stack.api_urls, plan.default_backend, SETTLE_S)) as crowd:
            portal.call(crowd.fill, plan.backends, SETTLERS, SHORT, None)
            streams = portal.call(crowd.disperse)
            return all(not told.complaints and not told.was_moved and told.message for told in streams)

    _wait(is_well, SETTLE_S, "the system to be well before the fault")


def _wait(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise _in_vain(seconds, what)
        time.sleep(POLL_S)


def _in_vain(seconds: float, what: str) -> StackError:
    return StackError(
        f"Waited {seconds:g} s for {what}, in vain: read the logs of the parts, or use a free machine, or fewer "
        "--streams."
    )
