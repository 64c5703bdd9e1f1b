"""An asyncio worker pool for Celery: thousands of `async def` tasks in one process, on one uvloop loop.

    celery = Celery("app", broker="redis://...")
    pool.configure(celery, lifespan=open_connections, visibility_timeout_s=30, drain_s=30)

    @celery.task(bind=True)
    @pool.coroutine_task
    async def generate(self, message_id): ...

It runs Celery's own tracer (signals, retries, late acknowledgement, errors are Celery's) in one greenlet a task, on
the loop's thread; Celery's consumer and every acknowledgement stay in the main thread.

Promises, each held by a test in `tests/app/test_pool_*.py`:
- At least once. A killed worker's messages run elsewhere about one visibility timeout later; while a worker lives
  its messages are its own, however long they take, ETA included.
- Once, as long as one worker holds the message: a redelivery of what runs here joins the running task.
- Celery's signals are sent as by its own pools, and `inspect active` names what runs.
- A reconnect lets no more tasks run at once than `concurrency`.
- A warm stop lets tasks finish until `drain_s`, then cancels the rest and puts their messages back.
- A broker that pauses or restarts costs no task: work goes on, and acknowledgements that failed are repeated.
- A revoke with terminate, a soft and a hard limit reach the body as asyncio cancellations.
- A frozen loop is measured, named in the log with its stack, and ends the process past a limit.

Not promised: once across workers (an outage longer than the visibility timeout, a stop while the broker is away); a
message that a worker has popped but not yet booked as unacknowledged, for about a millisecond, if it is killed or its
connection breaks just then (kombu fetches by BRPOP); messages in the queue of a broker that forgets them; a third
worker for a message that two have had (one that stood still past its visibility timeout acknowledges what another runs
by then: if that one is killed, the message does not come again). Result backends, which block, are refused, and with
them chords. Tasks that are plain `def` run in threads.

What this takes from private parts of Celery 5.6.3 and kombu 5.6.2 (`tests/app/test_pool_pins.py` watches them):
- `celery._state._task_stack`, `LocalStack.__ident_func__`: `self.request` also inside asyncio tasks a body starts
- the tracer's arguments `(name, id, request, ...)` and `request["properties"]["delivery_tag"]`: a redelivery carries
  the tag of what already runs
- `celery.worker.state.should_terminate`: a cold stop grants no time
- `LaxBoundedSemaphore.value`: a reconnect frees the slots of tasks that still run
- `Hub._pop_ready`, `Hub.fire_timers`: acknowledgements and renewals go on while the pool drains
- `Channel._in_poll`, `Channel._brpop_read`: the message of the last BRPOP is not lost at a stop
- `QoS.restore_unacked_once`, `QoS._flush`: what is put back at a stop is logged, where kombu prints to stderr
- `Channel._create_client` and the `QoS` methods `append`, `ack`, `reject`, `restore_visible`: visibility is renewed
  and restored in seconds, and deliveries outlive their connection
"""

from app.pool.bridge import coroutine_task
from app.pool.config import PoolSettings, configure
from app.pool.job import Stop, stop_reason
from app.pool.taskpool import TaskPool

__all__ = ["PoolSettings", "Stop", "TaskPool", "configure", "coroutine_task", "stop_reason"]
