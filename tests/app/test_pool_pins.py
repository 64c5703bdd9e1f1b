"""The pool leans on private parts of Celery and kombu: each must be there, in the versions it was probed with."""

import inspect
from importlib.metadata import version

import pytest
from celery import Celery, _state
from celery.app import trace
from celery.exceptions import ImproperlyConfigured
from celery.utils import threads
from celery.worker import state
from kombu.asynchronous.hub import Hub
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from kombu.transport import redis as kombu_redis

from app import pool
from app.pool.broker import Transport


@pytest.mark.parametrize(("package", "pinned"), [("celery", "5.6.3"), ("kombu", "5.6.2"), ("redis", "7.4.1")])
def test_versions_are_those_the_pool_was_probed_with(package: str, pinned: str) -> None:
    """Another version first has to pass this folder's tests; then change the pin here and in pyproject.toml."""
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (_state, "_task_stack"),
        (threads.LocalStack, "__ident_func__"),
        (state, "should_terminate"),
        (Hub, "_pop_ready"),
        (Hub, "fire_timers"),
        (kombu_redis.Channel, "_in_poll"),
        (kombu_redis.Channel, "_brpop_read"),
        (kombu_redis.Channel, "_create_client"),
        (kombu_redis.QoS, "append"),
        (kombu_redis.QoS, "ack"),
        (kombu_redis.QoS, "reject"),
        (kombu_redis.QoS, "restore_visible"),
        (kombu_redis.QoS, "restore_at_shutdown"),
        (kombu_redis.QoS, "restore_unacked"),
        (kombu_redis.QoS, "restore_unacked_once"),
        (kombu_redis.QoS, "_flush"),
    ],
)
def test_the_private_part_is_there(owner: object, name: str) -> None:
    """It was renamed or removed: see the table in `app/pool/__init__.py` for what leans on it."""
    assert hasattr(owner, name)


def test_shapes_the_pool_relies_on() -> None:
    """The tracer's leading arguments, and a semaphore whose value may be set."""
    assert list(inspect.signature(trace.fast_trace_task).parameters)[:3] == ["task", "uuid", "request"]
    assert LaxBoundedSemaphore(3).value == 3


def test_configure_keeps_what_the_application_has_set() -> None:
    """Transport options of its own stay, and the transport is ours by name."""
    celery = Celery("configured", broker="redis://127.0.0.1:1/0")
    celery.conf.broker_transport_options = {"client_name": "mine"}
    pool.configure(celery, concurrency=7, visibility_timeout_s=9)
    options = celery.conf.broker_transport_options
    assert (options["client_name"], options["visibility_timeout"]) == ("mine", 9)
    assert celery.conf.worker_concurrency == 7
    assert celery.connection_for_read().transport_cls == "app.pool.broker:Transport"
    assert isinstance(celery.connection_for_read().transport, Transport)


def test_what_cannot_work_is_refused_at_the_start() -> None:
    """A result backend would block every stream; the error says what to change."""
    celery = Celery("refused", broker="redis://127.0.0.1:1/0")
    with pytest.raises(ImproperlyConfigured, match=r"Call app\.pool\.configure"):
        pool.TaskPool(app=celery)
    pool.configure(celery)
    celery.conf.result_backend = "redis://127.0.0.1:1/0"
    with pytest.raises(ImproperlyConfigured, match="Unset result_backend"):
        pool.TaskPool(app=celery)
