"""What the API puts into the queue is what Celery would, and a queue that does not take it leaves nothing behind."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from kombu import Queue as Declared

from app.broker import PATIENCE_S, SINCE, TASK, BrokerUnavailableError, Queue, make_celery
from app.telemetry.tracing import traceparent
from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


def raw(server: RunningValkey) -> dict[str, Any]:
    """The newest message as it lies in the broker."""
    with server.client() as client:
        message: dict[str, Any] = json.loads(client.lpop("celery"))
    return message


def shape(value: Any) -> Any:
    """Names in their order, with the values' types."""
    return [(name, shape(part)) for name, part in value.items()] if isinstance(value, dict) else type(value)


async def test_a_consumer_cannot_tell_our_messages_from_celerys() -> None:
    """Byte for byte the same names, order and values, but for what Celery draws anew for every message or process."""
    task_id = uuid4()
    with running_valkey() as server:
        headers = {"traceparent": traceparent(task_id), SINCE: 0}
        with make_celery(server.url) as celery:
            name = str(task_id)
            celery.send_task(TASK, args=[name], task_id=name, ignore_result=True, headers=headers)
        theirs = raw(server)
        async with Queue.connect(server.url) as queue:
            await queue.put(task_id)
        ours = raw(server)
    assert shape(ours) == shape(theirs)
    for place, drawn in (("properties", "delivery_tag"), ("properties", "reply_to"), ("headers", "origin")):
        assert len(ours[place].pop(drawn)) == len(theirs[place].pop(drawn))
    assert ours["headers"].pop(SINCE) > theirs["headers"].pop(SINCE)
    assert json.dumps(ours) == json.dumps(theirs)


async def test_celerys_own_consumer_decodes_our_message() -> None:
    """kombu's channel delivers it, and the arguments are the task's id."""
    task_id = uuid4()
    with running_valkey() as server:
        async with Queue.connect(server.url) as queue:
            await queue.put(task_id)
            assert await queue.depth() == 1
        with make_celery(server.url) as celery, celery.connection_for_read() as connection:
            message = Declared("celery")(connection.default_channel).get()
            assert message is not None
            message.ack()
    assert message.payload[0] == [str(task_id)]
    assert (message.headers["task"], message.headers["id"]) == (TASK, str(task_id))


async def test_every_message_has_a_tag_of_its_own() -> None:
    """The broker's book of what is unacknowledged is kept by tag: two that share one would be one."""
    with running_valkey() as server:
        async with Queue.connect(server.url) as queue:
            await asyncio.gather(*(queue.put(UUID(int=n)) for n in range(100)))
            assert await queue.depth() == 100
        assert len({raw(server)["properties"]["delivery_tag"] for _ in range(100)}) == 100


async def test_a_broker_that_went_and_came_back_is_used_again() -> None:
    """While it is away the caller is told; after that not one kept connection, though all are broken, costs a put."""
    with running_valkey() as server:
        async with Queue.connect(server.url) as queue:
            for _ in range(2):
                await asyncio.gather(*(queue.put(uuid4()) for _ in range(5)))
                assert await queue.depth() == 5
                server.restart()
            server.kill()
            with pytest.raises(BrokerUnavailableError):
                await queue.put(uuid4())
            server.start()
            await queue.put(uuid4())
            assert await queue.depth() == 1


async def test_a_broker_that_is_silent_fails_a_put_in_time() -> None:
    """A paused server holds a POST for the broker's patience, not for ever; and nothing is tried twice."""
    with running_valkey() as server:
        async with Queue.connect(server.url) as queue:
            await queue.put(uuid4())
            server.pause()
            try:
                async with asyncio.timeout(2 * PATIENCE_S):
                    with pytest.raises(BrokerUnavailableError):
                        await queue.put(uuid4())
            finally:
                server.resume()
            with server.client() as client:
                await until_awaited(lambda: asyncio.to_thread(client.llen, "celery"), "the server answers again")
                assert client.llen("celery") <= 2, "the unanswered one may be there, once: its message was withdrawn"
