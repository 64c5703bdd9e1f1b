"""A whole system is examined: what is well, the model behind it, and what no process can be blamed for."""

import json
import logging

import asyncpg
import httpx2
import pytest
from typer.testing import CliRunner

from app.settings import Settings
from ops.doctor import canary
from ops.doctor import database as databases
from ops.doctor.canary import follow_canary
from ops.doctor.command import commands, exit_code, summary
from ops.doctor.examination import Subject, examine
from ops.doctor.finding import Severity, error, note, warning, well
from ops.doctor.model import examine_model
from ops.doctor.versions import installed, judge
from ops.stack import Stack
from ops.usage import UsageError
from tests.app.test_away import settings_of
from tests.ops.doctor.findings import by_check, only
from tests.ops.doctor.planted import NOWHERE
from tests.support.faulty_http import answering
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def test_a_healthy_system_has_nothing_to_report(stack: Stack, settings: Settings) -> None:
    """All checks are made, a message is followed through, and nothing of the doctor's stays behind."""
    subject = Subject(settings, (stack.api_url,), tuple(stack.worker_metrics_urls), through=stack.api_url)
    found = await examine(subject)
    assert by_check(found) == {}
    assert len(found) >= 50
    connection = await asyncpg.connect(stack.database_url)
    assert await connection.fetchval("SELECT count(*) FROM conversation") == 0
    await connection.close()


def test_json_and_the_exit_code_of_severity(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a program that reads it; the worst finding decides. Afterwards the app may warn as before."""
    for name, value in (stack.environment() | {"REDIS_URL": NOWHERE, "DATABASE_URL": ""}).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(commands, ["--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == document["exit_code"] == 1
    away = next(each for each in document["findings"] if each["check"] == "store.connection")
    assert (away["severity"], bool(away["fix"])) == ("error", True)
    assert logging.getLogger("app.streaming").level == logging.NOTSET


def test_severities_have_codes_of_their_own() -> None:
    """0 nothing to do, 3 warnings only, 1 whatever else there is besides an error."""
    texts = "check", "finding", "evidence", "fix"
    assert exit_code([well("check", "finding"), note(*texts)]) == 0
    assert exit_code([well("check", "finding"), warning(*texts)]) == 3
    assert exit_code([warning(*texts), error(*texts)]) == 1


def test_the_last_line_says_where_to_begin() -> None:
    """With the first error, however many warnings stand before it; what comes later often follows from it."""
    texts = "finding", "evidence", "fix"
    found = [warning("a", *texts), error("b", *texts), note("c", *texts), error("d", *texts)]
    assert summary(found) == "4 checks, 3 to act on. Begin with b: others may follow from it."
    assert summary(found[:1]) == "1 checks, 1 to act on: a."
    assert summary([note("c", *texts), well("e", "finding")]) == "2 checks, all is well."


@pytest.mark.parametrize(
    ("changes", "evidence", "fix"),
    [
        ({"openai_base_url": "http://127.0.0.1:1/v1"}, "", "OPENAI_BASE_URL"),
        ({"openai_model": "gpt-unheard-of"}, "models are listed", "OPENAI_MODEL"),
    ],
)
async def test_the_model_is_away_or_unknown(
    settings: Settings, changes: dict[str, str], evidence: str, fix: str
) -> None:
    """It is asked for its list, which costs nothing."""
    only(by_check([await examine_model(settings.model_copy(update=changes))]), "model", evidence, fix)


async def test_the_model_refuses_the_key(settings: Settings) -> None:
    """As a provider does with one that has expired."""
    async with answering(lambda _path: (401, {"error": {"message": "Incorrect API key provided"}})) as url:
        finding = await examine_model(settings.model_copy(update={"openai_base_url": f"{url}/v1"}))
    only(by_check([finding]), "model", "401", "OPENAI_API_KEY")


async def test_a_doctor_that_is_given_no_model_says_so() -> None:
    """As beside an API, which has neither the model's key nor a way to it: that is no fault of the system."""
    finding = await examine_model(Settings())
    assert (finding.severity, finding.finding) == (Severity.NOTE, "was not asked")


async def test_a_model_that_only_the_workers_reach_is_well(stack: Stack, settings: Settings) -> None:
    """A message came through, so that not every answer fails."""
    subject = Subject(settings.model_copy(update={"openai_base_url": "http://127.0.0.1:1/v1"}), (stack.api_url,))
    finding = by_check(await examine(subject))["model"]
    assert finding.severity is Severity.NOTE
    assert finding.finding == "can't be reached from here, and a message came through all the same"


@pytest.mark.parametrize("table", ["message", "flag_document", "alembic_version"])
async def test_a_table_that_is_locked_is_found_and_ends_nothing(
    stack: Stack, settings: Settings, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """As a migration that hangs has it: who holds it is named, waited for or not, and what needs no table is found."""
    monkeypatch.setattr(databases, "PATIENCE_S", 1.0)
    monkeypatch.setattr(databases, "WAITS_S", 0.0)
    await database.execute(f"BEGIN; LOCK TABLE {table}")
    try:
        found = await examine(Subject(settings, (stack.api_url,), (stack.worker_metrics_urls[0],)))
    finally:
        await database.execute("ROLLBACK")
    troubled = by_check(found)
    assert f"pid {database.get_server_pid()} has held it" in troubled["database.locks"].evidence
    assert f"pg_terminate_backend({database.get_server_pid()})" in troubled["database.locks"].fix
    assert troubled["database.answers"].severity is Severity.ERROR
    assert summary(found).endswith("Begin with database.locks: others may follow from it.")
    assert {"worker 1 loop", "clock of the store"} <= {finding.check for finding in found}


async def test_a_database_that_takes_no_writes_gets_no_message(
    stack: Stack, settings: Settings, database: asyncpg.Connection
) -> None:
    """The doctor could not take it away again; an API may have a database that does."""
    url = f"{settings.database_url}?options=-cdefault_transaction_read_only%3Don&sslmode=disable"
    found = by_check(await examine(Subject(settings.model_copy(update={"database_url": url}), (stack.api_url,))))
    assert found["database.writable"].severity is Severity.ERROR
    assert found["canary"].finding == "was not sent"
    assert await database.fetchval("SELECT count(*) FROM conversation") == 0


@pytest.mark.parametrize("option", ["--api", "--worker", "--through"])
def test_an_address_without_a_scheme_is_no_url(option: str) -> None:
    """It is said before anything is examined, with what to write."""
    with pytest.raises(UsageError, match=r"'127\.0\.0\.1:8000' is no URL"):
        CliRunner().invoke(commands, ["--api", "http://127.0.0.1:1", option, "127.0.0.1:8000"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("model", "patience_s", "finding", "fix"),
    [
        ("scripted?fault=500", 30.0, "'upstream'", "refused or broke off"),
        ("scripted?ttft=60", 4.0, "model or the worker", "said of the model"),
    ],
)
async def test_the_canary_stops_at_the_model(
    stack: Stack,
    http: httpx2.AsyncClient,
    database: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    patience_s: float,
    finding: str,
    fix: str,
) -> None:
    """One that fails, and one that says nothing."""
    monkeypatch.setattr(canary, "PATIENCE_S", patience_s)
    settings = settings_of(stack, broker_url=stack.broker_url).model_copy(update={"openai_model": model})
    async with serving(settings) as client:
        found = await follow_canary(http, str(client.http.base_url).rstrip("/"), settings, database)
    assert finding in found.finding
    assert fix in found.fix


def test_versions_that_are_known_to_break() -> None:
    """In this Python, or by what a worker reports of itself."""
    assert all(finding.is_well for finding in judge("versions", installed()))
    found = by_check(judge("versions", {"celery": "5.7.0", "kombu": "5.6.2"}))
    only(found, "versions", "celery 5.7.0", "requirements.lock")


async def test_settings_that_do_not_agree(settings: Settings) -> None:
    """A grace that ends before a redelivery can begin."""
    hurried = settings.model_copy(update={"lease_grace_s": 5.0, "redis_url": NOWHERE, "broker_url": NOWHERE})
    found = by_check(await examine(Subject(hurried)))
    assert "STREAMGAUGE_LEASE_GRACE_S" in found["settings"].fix
