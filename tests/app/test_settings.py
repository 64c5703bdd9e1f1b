"""Settings are read once, and a bad one stops the start with its name and the fix."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from app.main import create_app
from app.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("REDIS_URL", "localhost:6379", "redis://host:port/0"),
        ("REDIS_URL", "redis://localhost:six/0", "a port is a number"),
        ("BROKER_URL", "redis://localhost:70000/0", "a port is a number"),
        ("REDIS_URL", "sentinel://one:26379", "redis+sentinel://:password@host:26379,host:26379,host:26379/mymaster/0"),
        ("REDIS_URL", "redis://one/abc", "a database is a number"),
        ("REDIS_URL", "redis+sentinel://one,two", "use redis+sentinel://:password@host:26379"),
        ("BROKER_URL", "redis+sentinel://one,two:ten/mymaster", "'two:ten' is no sentinel's host:port"),
        ("BROKER_URL", "rediss+sentinel://one:70000/mymaster", "a port from 1 to 65535"),
        ("REDIS_URL", "redis+sentinel://:a#b@one/mymaster", "a password's / # ? and @ are %2F %23 %3F %40"),
        ("DATABASE_URL", "postgresql://localhost:70000/app", "a port is a number"),
        ("DATABASE_URL", "postgresql://localhost:five/app", "postgresql://user:password@host:port/database"),
        ("OPENAI_BASE_URL", "http://localhost:high/v1", "a port is a number"),
        ("DATABASE_URL", "mysql://db/app", "postgresql://user:password@host:port/database"),
        ("DATABASE_URL", "nonsense", "postgresql://user:password@host:port/database"),
        ("OPENAI_BASE_URL", "api.openai.com", "https://host/v1"),
        ("STREAMGAUGE_POLLING_INTERVAL_S", "fast", "S: write a number"),
        ("STREAMGAUGE_CHUNK_TTL_S", "0", "S: write 1 or more"),
        ("STREAMGAUGE_MAX_TOKENS", "2.5", "S: write a whole number"),
        ("STREAMGAUGE_LEASE_S", "0", "S: write a number above 0"),
        ("STREAMGAUGE_LEASE_S", "nan", "S: write a number"),
        ("STREAMGAUGE_TRACE_RATIO", "7", "O: write 1 or less"),
        ("STREAMGAUGE_DEFAULT_BACKEND", "pigeon", "write 'polling', 'pubsub'"),
        ("STREAMGAUGE_API_KEYS", "ada:secret", "streamgauge key NAME"),
        ("STREAMGAUGE_PAGE_LINKS", "Grafana=javascript:alert(1)", "Name=https://address"),
    ],
)
def test_a_setting_that_does_not_parse_stops_the_start(
    name: str, value: str, fix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no app; the error names the variable and says what it should be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        create_app()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert name in said
    assert fix in said
    assert "Input should" not in said
    assert "Value error" not in said


def test_a_bad_setting_ends_the_process_without_a_traceback() -> None:
    """At once, and with the status of a usage error."""
    run = subprocess.run(
        [sys.executable, "-c", "from app.main import create_app; create_app()"],
        env={**os.environ, "REDIS_URL": "localhost:6379"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert "REDIS_URL" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_empty_variable_is_as_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files write them."""
    before = Settings()
    for name in ("REDIS_URL", "BROKER_URL", "STREAMGAUGE_LEASE_S", "STREAMGAUGE_TRACE_FOLDER"):
        monkeypatch.setenv(name, "")
    assert Settings() == before


def test_the_broker_is_the_chunk_store_unless_set() -> None:
    """An eviction policy, or a full store, must be able to spare the queue."""
    assert Settings(redis_url="redis://one/0").broker_url == "redis://one/0"
    assert Settings(redis_url="redis://one/0", broker_url="redis://two/0").broker_url == "redis://two/0"


def test_a_cluster_can_not_be_the_broker() -> None:
    """Celery does not speak to one: the error says which variable to set."""
    with pytest.raises(ValidationError, match="set BROKER_URL"):
        Settings(store_cluster=True)
    assert Settings(store_cluster=True, broker_url="redis://single/0").store_cluster


def test_a_cluster_has_no_sentinels() -> None:
    """It fails over by itself: the error says what to name instead."""
    with pytest.raises(ValidationError, match="name one of the cluster's nodes"):
        Settings(redis_url="redis+sentinel://one/main", store_cluster=True, broker_url="redis://single/0")


def test_the_default_backend_must_suit_the_store() -> None:
    """`streams` needs a single server: the error says what to set for a cluster."""
    with pytest.raises(ValidationError, match="STREAMGAUGE_DEFAULT_BACKEND=pubsub"):
        Settings(store_cluster=True, broker_url="redis://single/0", default_backend="streams")
    assert Settings(default_backend="streams").default_backend == "streams"


def test_the_default_backend_must_suit_a_pooler() -> None:
    """`notify` needs a session of its own: the error says what to set behind a pooler in transaction mode."""
    with pytest.raises(ValidationError, match="set STREAMGAUGE_DEFAULT_BACKEND=pubsub"):
        Settings(database_pooler=True, default_backend="notify")


def test_what_is_wrong_of_several_settings_names_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No one of them is wrong by itself: the line says which two do not agree."""
    monkeypatch.setenv("STREAMGAUGE_DATABASE_POOLER", "true")
    monkeypatch.setenv("STREAMGAUGE_DEFAULT_BACKEND", "notify")
    with pytest.raises(SystemExit):
        load_settings()
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "  STREAMGAUGE_DEFAULT_BACKEND=notify needs a session of its own, and STREAMGAUGE_DATABASE_POOLER"
    )


def test_a_misspelt_setting_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It does nothing, and somebody meant something; what is like none of them is somebody else's."""
    monkeypatch.setenv("STREAMGAUGE_DEFUALT_BACKEND", "polling")
    monkeypatch.setenv("STREAMGAUGE_REDIS_URL", "redis://elsewhere/0")
    monkeypatch.setenv("STREAMGAUGE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("STREAMGAUGE_API_KEY", "sg_key")
    assert load_settings().default_backend == "pubsub"
    assert set(capsys.readouterr().err.splitlines()) == {
        "STREAMGAUGE_DEFUALT_BACKEND is no setting: is STREAMGAUGE_DEFAULT_BACKEND meant?",
        "STREAMGAUGE_REDIS_URL is no setting: is REDIS_URL meant?",
    }


def test_models_are_allowed_by_globs() -> None:
    """The default model always; others only if named."""
    settings = Settings(openai_model="main", allowed_models="scripted*, other")
    assert [settings.allows_model(name) for name in ("main", "scripted?gap=1", "other", "more")] == [True] * 3 + [False]


def test_settings_are_frozen_and_hide_the_key() -> None:
    """Nothing changes them later, and printing them leaks nothing."""
    settings = Settings(openai_api_key="sk-secret")
    assert "sk-secret" not in repr(settings)
    with pytest.raises(ValidationError):
        setattr(settings, "redis_url", "redis://elsewhere/0")  # noqa: B010 - a type checker refuses the plain form


def test_the_pages_links_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name and an address each, with commas between."""
    monkeypatch.setenv("STREAMGAUGE_PAGE_LINKS", "Grafana=https://g.example/d?a=b, Traces=http://t.example")
    assert Settings().page_links == {"Grafana": "https://g.example/d?a=b", "Traces": "http://t.example"}
