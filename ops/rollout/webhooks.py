"""Events of a rollout, POSTed as JSON. They decide nothing, save one that is a gate where a gate is reached."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import httpx2

from ops.rollout.guard import Webhook

TRIES = 3
PAUSE_S = 1.0
PATIENCE_S = 5.0


class Webhooks:
    """Sends events beside the rollout, in order, and waits for the last of them at the end of the block."""

    def __init__(self, hooks: Sequence[Webhook], warn: Callable[[str], None], pause_s: float = PAUSE_S) -> None:
        self._hooks, self._warn, self._pause_s = hooks, warn, pause_s
        self._sender = ThreadPoolExecutor(1, "webhooks")
        self._http = httpx2.Client(timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.shutdown(wait=True)
        self._http.close()

    def tell(self, event: str, **facts: Any) -> None:
        """Tell everybody who wants to hear of such events, some time soon."""
        for hook in self._hooks:
            if not hook.events or event in hook.events:
                self._sender.submit(self._post, hook, {"event": event, **facts})

    def gates_open(self, **facts: Any) -> bool:
        """Ask all that are gates; True if there are some and each answers `{"approve": true}`."""
        gates = [hook for hook in self._hooks if hook.gate]
        answers = [self._post(hook, {"event": "gate", **facts}) for hook in gates]
        return bool(gates) and all(answer is not None and _approves(answer) for answer in answers)

    def _post(self, hook: Webhook, event: Mapping[str, Any]) -> httpx2.Response | None:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self._pause_s * attempt)
            try:
                return self._http.post(hook.url, json=event).raise_for_status()
            except httpx2.HTTPError as error:
                complaint = str(error)
        self._warn(f"{hook.url} did not take {event['event']!r} in {TRIES} tries: {complaint}")
        return None


def _approves(answer: httpx2.Response) -> bool:
    try:
        return bool(answer.json()["approve"] is True)
    except (ValueError, KeyError, TypeError):
        return False
