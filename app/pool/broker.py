"""Deliveries outlive their connection and stay ours while they run: what kombu's Redis transport leaves open.

Everything here runs in the consumer's thread.
"""

import logging
import time
from collections import OrderedDict
from queue import Empty
from typing import Any

import kombu
import redis
from celery import bootsteps
from celery.app import amqp
from celery.exceptions import ImproperlyConfigured
from kombu.transport import redis as kombu_redis
from redis import sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.pool.refusal import lost_when_refused

logger = logging.getLogger(__name__)

SWEEPS_MISSED_S = 3.0
"""A sweep that comes this late means that the broker was away."""
RENEWED_AT = 0.25
"""Of the visibility timeout: the rest is what a stalled machine may take before another worker has the message too."""
REMEMBERED = 10_000
"""How many acknowledged tags are kept to recognise a redelivery of what is done."""


class Ledger:
    """The deliveries of this process, over all its connections."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        """Messages delivered here that the broker still counts as unacknowledged."""
        self.unsent: dict[str, bool | None] = {}
        """Answers the broker did not get: None for an acknowledgement, else the `requeue` of a rejection."""
        self.done: OrderedDict[str, None] = OrderedDict()
        """Tags acknowledged not long ago."""
        self.renewed_at = 0.0
        self.swept_at: float | None = None
        self.restores_from = 0.0
        """When what other workers seem to have left behind may be restored."""
        self.restore_at_shutdown = False
        """Put unacknowledged messages back when a channel closes. Only right once no task runs any more."""

    def acknowledged(self, tag: str) -> None:
        """Remember a tag, and forget the oldest."""
        self.done[tag] = None
        while len(self.done) > REMEMBERED:
            self.done.popitem(last=False)


ledger = Ledger()
"""kombu makes a new transport at each reconnect and passes it nothing of ours, so this is the process's."""


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # kombu publishes no types
    """Keeps what is delivered here invisible to others, and remembers answers the broker did not get."""

    @property
    def restore_at_shutdown(self) -> bool:
        """Stock True would requeue running tasks at every lost connection."""
        return ledger.restore_at_shutdown

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a delivery as unacknowledged; a second time repairs what the broker has lost or given away."""
        ledger.held[delivery_tag] = message  # first: a broker that gave it and refuses to note it has it no more
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, now or as soon as the broker listens."""
        ledger.acknowledged(delivery_tag)
        self._answer(delivery_tag, None)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop or requeue, now or as soon as the broker listens."""
        self._answer(delivery_tag, requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        """Put back at the stop what nobody runs any more, and log it: kombu prints that, and how it failed.

        It is called for the channel of each connection that was lost, too, which can put nothing back: an attempt would
        end the worker by an AttributeError, in mid-shutdown.
        """
        self._on_collect.cancel()
        self._flush()
        if not self.restore_at_shutdown or not self._delivered:
            return
        if self.channel.connection is None or self.channel.connection.client is None:
            return
        count = len(self._delivered)
        try:
            self.restore_unacked()
        except self.channel.connection_errors as error:
            logger.warning("The broker is away: %d messages come again when their visibility ends: %s", count, error)
        else:
            logger.info("Put %d unacknowledged messages back", count)

    def send_unsent(self) -> None:
        """Repeat the answers that failed."""
        for tag, requeue in tuple(ledger.unsent.items()):
            self._send(tag, requeue)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002
        """Requeue what a lost worker left behind, at every call, and never what a living one holds.

        While the broker was away nobody could renew, so everybody seems lost: they get time to renew first.
        """
        self.renew()
        self.send_unsent()
        now = time.time()
        if ledger.swept_at is not None and now - ledger.swept_at > SWEEPS_MISSED_S:
            ledger.restores_from = now + self.visibility_timeout / 2
        ledger.swept_at = now
        if now >= ledger.restores_from:
            super().restore_visible(start=start, num=num, interval=1)

    def renew(self) -> None:
        """Keep what this process holds invisible. XX: what another worker has taken stays taken."""
        now = time.time()
        if not ledger.held or now - ledger.renewed_at < self.visibility_timeout * RENEWED_AT:
            return
        with self.channel.conn_or_acquire() as client:
            client.zadd(self.unacked_index_key, dict.fromkeys(ledger.held, now), xx=True)
        ledger.renewed_at = now

    def _answer(self, tag: str, requeue: bool | None) -> None:
        ledger.unsent[tag] = requeue
        if len(ledger.unsent) == 1:  # else one has just failed: each more would block until the socket's timeout
            self._send(tag, requeue)

    def _send(self, tag: str, requeue: bool | None) -> None:
        if self.channel.connection is None:
            raise redis.ConnectionError("the channel is closed: the answer goes out after the next reconnect")
        if requeue is None:
            super().ack(tag)
        else:
            super().reject(tag, requeue=requeue)
        ledger.unsent.pop(tag, None)
        ledger.held.pop(tag, None)


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """Redis channel with our `QoS`, and one client for its commands instead of one for each."""

    QoS = QoS
    _commands: Any = None

    def _connparams(self, asynchronous: bool = False) -> Any:
        parameters = super()._connparams(asynchronous)
        return parameters | {"connection_class": lost_when_refused(parameters["connection_class"])}

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._commands is None or self._commands.connection_pool is not self.pool:
            self._commands = super()._create_client()
        return self._commands


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Redis transport for `broker_transport`."""

    Channel = Channel

    def establish_connection(self) -> Any:
        """Count a broker as there once it takes writes: else one that refuses is lost and found without a pause."""
        super().establish_connection()
        channel = self._avail_channels[-1]
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, {"nobody": 0}, xx=True)  # changes nothing
        return self


class SentinelChannel(Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """Our channel to the master that sentinels name, who are asked for it at each new connection."""

    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, "sentinels")

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        """Give a pool as kombu's own, which takes sentinels for brokers to switch to, and asks lost ones four times."""
        params = self._connparams(asynchronous)
        del params["host"], params["port"]
        once = {"retry": Retry(NoBackoff(), 0)}
        asking = sentinel.Sentinel(self.sentinels, sentinel_kwargs=self.sentinel_kwargs | once)  # type: ignore[no-untyped-call]  # redis-py has no types here
        return sentinel.SentinelConnectionPool(self.master_name, asking, **params)  # type: ignore[no-untyped-call]


class SentinelTransport(Transport):
    """The transport for `broker_transport` where the broker is behind Sentinel."""

    Channel = SentinelChannel


class Connection(kombu.Connection):  # type: ignore[misc]
    """Comes back soon after the broker does: kombu's own pauses grow to 30 s."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Retry after 0.2 s, then less and less often, up to every 2 s."""
        pauses = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 2.0}
        return super().ensure_connection(*args, **{**pauses, **kwargs})


class AMQP(amqp.AMQP):  # type: ignore[misc]
    """Gives Celery our `Connection`."""

    Connection = Connection


class DeliveryKeeper(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step of Celery's consumer: takes deliveries over after a reconnect, sweeps, and ends fetching cleanly."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Point every delivery at the live channel before anything can be acknowledged."""
        channel = consumer.task_consumer.channel
        if not isinstance(channel, Channel):
            raise ImproperlyConfigured(
                "Use a redis:// or redis+sentinel:// broker_url: the pool's promises are made for Redis"
            )
        consumer.pool.reconnected()
        for tag, message in tuple(ledger.held.items()):
            message.channel = channel
            channel.qos.append(message, tag)
            if tag not in consumer.pool.jobs and tag not in ledger.unsent:
                ledger.unsent[tag] = True  # the consumer forgot it when it lost its connection
        channel.qos.send_unsent()

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Renew and restore on an interval of our own: stock takes up to 100 s after a kill."""
        qos = consumer.task_consumer.channel.qos
        every_s = min(consumer.pool.settings.restore_every_s, qos.visibility_timeout * RENEWED_AT)
        hub.call_repeatedly(every_s, qos.restore_visible)

    def stop(self, consumer: Any) -> None:
        """Before a drain, take the reply of the last BRPOP: a message in it would die with a SIGKILL."""
        if consumer.blueprint.state == bootsteps.RUN or consumer.task_consumer is None:
            return  # a reconnect
        channel = consumer.task_consumer.channel
        try:
            consumer.task_consumer.cancel()
            if channel._in_poll:
                channel._brpop_read()
        except Empty:
            pass
        except channel.connection_errors:
            logger.warning("The broker is away while stopping", exc_info=True)
