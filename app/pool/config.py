"""One call that makes a Celery application use the pool."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from app.pool.broker import DeliveryKeeper
from app.pool.loop import Lifespan, Watch


def _no_lifespan() -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What the pool reads; the rest of `configure` are Celery's own settings."""

    lifespan: Lifespan = _no_lifespan
    drain_s: float = 30.0
    cancel_grace_s: float = 5.0
    restore_every_s: float = 1.0
    watch: Watch = field(default_factory=Watch)


def configure(
    celery_app: Any,
    *,
    lifespan: Lifespan = _no_lifespan,
    concurrency: int = 1000,
    visibility_timeout_s: float = 30.0,
    restore_every_s: float = 1.0,
    drain_s: float = 30.0,
    cancel_grace_s: float = 5.0,
    broker_timeout_s: float = 5.0,
    watch: Watch | None = None,
) -> None:
    """Make `celery -A MODULE worker` run the tasks of this application in the pool.

    `lifespan` is entered on the loop before the first task and left after the last; context variables it sets are
    seen by every task. `visibility_timeout_s` is how long a killed worker's messages stay unseen, `restore_every_s`
    how often they are looked for (and what is held is renewed) at least, `drain_s` what a warm stop grants,
    `cancel_grace_s` what a cancelled task gets to clean up, `broker_timeout_s` when a silent broker counts as gone (it
    must be above the second BRPOP waits).
    """
    is_behind_sentinel = "sentinels" in (celery_app.conf.broker_transport_options or {})
    celery_app.conf.update(
        asyncio_pool=PoolSettings(lifespan, drain_s, cancel_grace_s, restore_every_s, watch or Watch()),
        worker_pool="app.pool:TaskPool",
        worker_concurrency=concurrency,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,  # after a reconnect it stayed small for long
        worker_cancel_long_running_tasks_on_connection_loss=False,  # running tasks keep their messages instead
        worker_soft_shutdown_timeout=0,  # sleeps in the signal handler and starves acknowledgements; drain_s instead
        task_acks_late=True,
        task_ignore_result=True,
        broker_transport=f"app.pool.broker:{'Sentinel' if is_behind_sentinel else ''}Transport",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            **(celery_app.conf.broker_transport_options or {}),
            "visibility_timeout": visibility_timeout_s,
            # Stock 300: a worker that is lost in a sweep would stop all others' for that long.
            "unacked_mutex_expire": visibility_timeout_s / 2,
            "socket_timeout": broker_timeout_s,
            "socket_connect_timeout": broker_timeout_s,
            "socket_keepalive": True,
        },
    )
    celery_app.amqp_cls = "app.pool.broker:AMQP"
    celery_app.steps["consumer"].add(DeliveryKeeper)
