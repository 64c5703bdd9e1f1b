"""One message over the wire: asked, watched by its viewers as the answer comes, compared with what was committed."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import gevent
import msgspec
from locust.contrib.fasthttp import FastHttpSession

from loadtest.recorder import Committed, Outcome, Recording, StreamRow
from loadtest.scenarios.reader import WireError
from loadtest.scenarios.viewing import BACKEND_HEADER, GOOD_ENDS, KEY, TRANSPORT_ERRORS, Place, check, narrow, watch

OPEN = "open"


class _Timings(msgspec.Struct):
    accepted_ns: int | None = None
    requested_ns: int | None = None
    first_delta_ns: int | None = None
    last_delta_ns: int | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Message(msgspec.Struct):
    role: str
    content: str
    status: str
    task_id: str | None = None
    backend: str | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None


class _Conversation(msgspec.Struct):
    id: str
    messages: list[_Message] = []


class _Accepted(msgspec.Struct):
    task_id: str
    message_id: str


class _Cancelling(msgspec.Struct):
    state: str


def create(client: FastHttpSession) -> str:
    """Make a conversation and return its id; whatever prevents it is a WireError."""
    try:
        with client.request("POST", "/conversations", json={}, headers=KEY, catch_response=True) as response:
            return str(_decoded(response, 201, _Conversation).id)
    except TRANSPORT_ERRORS as error:
        raise WireError(f"{type(error).__name__}: {error}") from error


class Ending(NamedTuple):
    """How something over the wire ended."""

    outcome: Outcome
    error: str | None = None


STOPPED = Ending("censored", "in flight when the run was stopped")
NEVER_CAME = Ending("failed", "never joined: the stream of the first viewer had broken")


def guarded(action: Callable[[], object], timeout_s: float | None = None) -> Ending:
    """Do it and say how it ended; being killed meanwhile is an ending too."""
    limit = gevent.Timeout(timeout_s)
    limit.start()
    try:
        action()
        return Ending("ended")
    except gevent.GreenletExit:
        return STOPPED
    except gevent.Timeout as expired:
        if expired is not limit:
            return Ending("failed", "timeout: no bytes from the server")
        return Ending("failed", f"timeout: not over after {timeout_s:g} s")
    except WireError as error:
        return Ending("failed", str(error))
    except TRANSPORT_ERRORS as error:
        return Ending("failed", f"{type(error).__name__}: {error}")
    finally:
        limit.close()


def converse(
    client: FastHttpSession, recordings: Sequence[Recording], conversation: str, timeout_s: float
) -> list[StreamRow]:
    """Drive one message to its end and return its viewers' rows; killed meanwhile, they are censored, not missing."""
    talk = _Talk(client, recordings, conversation, timeout_s)
    endings = talk.run()
    return [one.row(*ending) for one, ending in zip(recordings, endings, strict=True)]


class _Talk:
    def __init__(self, client: FastHttpSession, recordings: Sequence[Recording], name: str, timeout_s: float) -> None:
        self._client, self._recordings, self._name, self._timeout_s = client, recordings, name, timeout_s
        self._first = recordings[0]
        self._joined: dict[int, gevent.Greenlet] = {}
        self._cancelling: gevent.Greenlet | None = None

    def run(self) -> list[Ending]:
        """One ending a viewer."""
        first = guarded(self._ask_and_watch, self._timeout_s)
        waited = guarded(partial(gevent.joinall, list(self._joined.values()))) if first is not STOPPED else STOPPED
        if waited is STOPPED:
            gevent.killall([*self._joined.values(), *filter(None, [self._cancelling])])
        elif self._first.terminal is not None and self._first.terminal.chunk_type in GOOD_ENDS:
            verified = guarded(self._verify, self._timeout_s)
            first = first if verified.outcome == "ended" else verified
        if waited is STOPPED and first.outcome == "ended":
            first = STOPPED  # whole, but nobody knows whether it is what was committed
        return [first, *(self._ending(number, first) for number in range(1, len(self._recordings)))]

    def _ending(self, number: int, first: Ending) -> Ending:
        if number not in self._joined:
            return STOPPED if first is STOPPED else NEVER_CAME
        value = self._joined[number].value
        return value if isinstance(value, Ending) else STOPPED  # killed before it had begun

    def _ask_and_watch(self) -> None:
        _ask(self._client, self._first, self._name)
        others = enumerate(self._first.arrival.viewers[1:], start=1)
        places = [Place(viewer.joins_after, partial(self._join, number)) for number, viewer in others]
        after = self._first.arrival.watching.cancel_after
        if after is not None:
            places.append(Place(after, self._cancel))
        watch(self._client, self._first, places)
        for number in range(1, len(self._recordings)):
            self._join(number)  # an answer that was shorter than planned has viewers who come after it
        if self._cancelling is not None and self._cancelling.get().outcome == "failed":
            raise WireError(self._cancelling.get().error)

    def _join(self, number: int) -> None:
        if number not in self._joined:
            recording = self._recordings[number]
            recording.task_id, recording.chosen = self._first.task_id, self._first.chosen
            client = narrow(self._client) if recording.viewer.slow else self._client
            self._joined[number] = gevent.spawn(guarded, partial(watch, client, recording), self._timeout_s)

    def _cancel(self) -> None:
        self._cancelling = gevent.spawn(guarded, partial(_cancel, self._client, self._first), self._timeout_s)

    def _verify(self) -> None:
        _verify(self._client, self._first, self._name)
        for other in self._recordings[1:]:
            other.committed, other.verified_ns = self._first.committed, self._first.verified_ns


def _ask(client: FastHttpSession, recording: Recording, conversation: str) -> None:
    arrival = recording.arrival
    body: dict[str, Any] = {"content": arrival.prompt}
    if arrival.model is not None:
        body["model"] = arrival.model
    if arrival.max_tokens is not None:
        body["max_tokens"] = arrival.max_tokens
    path, name = f"/conversations/{conversation}/messages", "POST /conversations/[id]/messages"
    headers = {**KEY, BACKEND_HEADER: arrival.backend} if arrival.backend else KEY
    recording.sent_ns = time.time_ns()
    with client.request(
        "POST", path, name=f"{name} {arrival.backend}".rstrip(), json=body, headers=headers, catch_response=True
    ) as response:
        recording.accepted_ns = time.time_ns()
        recording.task_id = _decoded(response, 202, _Accepted).task_id
        recording.chosen = response.headers.get(BACKEND_HEADER)


def _cancel(client: FastHttpSession, recording: Recording) -> None:
    path = f"/stream/{recording.task_id}/cancel"
    asked_ns = time.time_ns()
    name = "POST /stream/[task_id]/cancel"
    with client.request("POST", path, name=name, headers=KEY, catch_response=True) as response:
        if _decoded(response, 202, _Cancelling).state == OPEN:  # one that is over stays what it is
            recording.cancelled_ns, recording.cancel_taken_ns = asked_ns, time.time_ns()


def _verify(client: FastHttpSession, recording: Recording, conversation: str) -> None:
    with client.request(
        "GET", f"/conversations/{conversation}", name="GET /conversations/[id]", headers=KEY, catch_response=True
    ) as response:
        messages = _decoded(response, 200, _Conversation).messages
    recording.verified_ns = time.time_ns()
    answers = [one for one in messages if one.role == "assistant" and one.task_id in (recording.task_id, None)]
    if not answers:
        raise WireError("the conversation has no answer after its end")
    answer, timings = answers[-1], answers[-1].timings or _Timings()
    recording.committed = Committed(
        status=answer.status,
        content=answer.content,
        backend=answer.backend,
        completion_tokens=answer.usage and answer.usage.completion_tokens,
        accepted_ns=timings.accepted_ns,
        requested_ns=timings.requested_ns,
        first_delta_ns=timings.first_delta_ns,
        last_delta_ns=timings.last_delta_ns,
    )


def _decoded(response: Any, status: int, kind: Any) -> Any:
    try:
        check(response, status)
        return msgspec.json.decode(response.text, type=kind)
    except (WireError, msgspec.MsgspecError) as error:
        response.failure(error)
        raise WireError(str(error)) from error
