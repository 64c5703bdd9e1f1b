"""Who changed the flag is written down and vouched for; every process follows; live streams leave when they must."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from app import flags
from app.database import Database
from app.flag_records import FlagMovedError, FlagRecords, broken_at
from app.flags import Flags
from app.streaming.flag_document import ForeignDocumentError, Rules
from app.watching import FLAG_EVERY_S
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.app.test_metrics import at
from tests.support.client import Client, text_of
from tests.support.serving import serving
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
LEFT = ("pubsub", "streams")
BEGUN_IN = "SELECT count(*) FROM stream WHERE task_id = ANY($1::uuid[]) AND attempt > 0 AND backend = $2"
TOKEN = {"Authorization": "Bearer river"}
BROKEN = {
    "flags": {"stream-backend": {"state": "ENABLED", "variants": {"notify": "notify"}, "targeting": {"/": [1, 0]}}}
}


async def follows_no_flag(client: Client, system: Stack) -> bool:
    """Whether the worker has seen that there is no document: one that it still follows may tell streams to leave."""
    return await at(client, system.worker_metrics_urls[0], "flag_generation") == 0


async def counted_in_safety(client: Client, system: Stack) -> bool:
    """Whether streams and viewers are counted under `polling`, and none under the backends that they left."""
    worker, api = system.worker_metrics_urls[0], f"{system.api_url}/metrics"
    producing = {name: await at(client, worker, "streams_producing", backend=name) for name in (*LEFT, "polling")}
    viewers = {name: await at(client, api, "viewers", backend=name) for name in ("pubsub", "polling")}
    # Viewers of `streams` look only after a silence.
    gone = not any(producing[name] for name in LEFT) and not viewers["pubsub"]
    return gone and producing["polling"] >= 8 and viewers["polling"] >= 4


@contextlib.asynccontextmanager
async def flags_of(system: Stack) -> AsyncIterator[tuple[Flags, FlagRecords, Database]]:
    """The flag of this system, which forgets what it was told at the block's end."""
    settings = settings_of(system)
    async with Database.connect(settings.database_url, 1) as database:
        records = FlagRecords(database)
        async with database.driver() as connection:
            await connection.execute("DELETE FROM flag_document")  # of other files' tests
        try:
            yield Flags(records, settings), records, database
        finally:
            async with database.driver() as connection:
                await connection.execute("DELETE FROM flag_document")


async def test_each_change_says_who_and_why_and_holds_on_to_the_one_before(system: Stack) -> None:
    """An entry that is altered, or taken out of the middle, is found."""
    async with flags_of(system) as (changing, records, database):
        await changing.change(flags.to("polling"), by="ada", reason="first")
        await changing.change(flags.split({"pubsub": 10}), by="bob", reason="a tenth")
        last = await changing.change(flags.target("eve", "notify"), by="ada", reason="")
        history = await records.history()
        assert [(entry.changed_by, entry.reason) for entry in history] == [
            ("ada", "first"),
            ("bob", "a tenth"),
            ("ada", ""),
        ]
        assert broken_at(history) is None
        assert (await changing.standing()).rules == Rules("polling", {"pubsub": 10.0}, {"eve": "notify"})
        async with database.driver() as connection:
            await connection.execute("UPDATE flag_document SET reason = 'a half' WHERE changed_by = 'bob'")
        assert broken_at(await records.history()) == history[1].generation
        async with database.driver() as connection:
            await connection.execute("DELETE FROM flag_document WHERE changed_by = 'bob'")
        assert broken_at(await records.history()) == last.generation


async def test_of_two_who_change_the_same_flag_one_is_told(system: Stack) -> None:
    """Nothing of the other's is lost; who goes back to safety is not held up by anybody."""
    async with flags_of(system) as (changing, _, _):
        first = await changing.change(flags.to("polling"), by="ada", reason="")
        with pytest.raises(FlagMovedError, match=f"generation {first.generation}"):
            await changing.change(
                flags.split({"pubsub": 10}), by="bob", reason="", expected=(first.generation or 0) - 1
            )
        back = await changing.change(flags.back_to_safety(), by="bob", reason="")
        assert back.after == Rules("polling", is_on=False)


@pytest.mark.parametrize(
    "theirs", ["theirs", {"state": "ENABLED", "defaultVariant": "pubsub", "targeting": {"if": ["pubsub"]}}]
)
async def test_a_document_of_somebodys_is_replaced_whole_or_not_at_all(system: Stack, theirs: Any) -> None:
    """A part of it can't be changed; a rollback can always be had."""
    async with flags_of(system) as (changing, records, _):
        await records.add({"flags": {"stream-backend": theirs}})
        assert (await changing.standing()).rules is None
        with pytest.raises(ForeignDocumentError):
            await changing.change(flags.split({"pubsub": 10}), by="ada", reason="")
        planned = await changing.plan(flags.back_to_safety())
        assert (str(planned), planned.generation) == ("a document of somebody's → polling alone", None)
        assert (await changing.standing()).rules is None, "planning changes nothing"
        await changing.change(flags.back_to_safety(), by="ada", reason="")
        assert (await changing.standing()).rules == Rules("polling", is_on=False)


async def test_two_processes_follow_within_a_second(system: Stack) -> None:
    """Though nobody posts; a broken document changes nothing, and each says that it is broken."""
    assert FLAG_EVERY_S < 1, "a pause between two looks"
    settings = settings_of(system, operator_token="river")
    async with flags_of(system) as (changing, records, _), serving(settings) as one, serving(settings) as other:

        async def generations() -> list[int]:
            answers = [await client.http.get("/ops/flag", headers=TOKEN) for client in (one, other)]
            return [answer.json()["follows"] for answer in answers]

        for backend in ("notify", "pubsub"):
            made = (await changing.change(flags.to(backend), by="ada", reason="")).generation
            await until_awaited(partial(_equal, generations, [made, made]), "both follow")
        broken = await records.add(BROKEN)
        await until_awaited(lambda: _equal(generations, [broken, broken]), "both have seen it")
        assert "streamgauge_flag_broken 1.0" in (await one.http.get("/metrics")).text
        assert (await one.answer(await one.post()))["backend"] == "pubsub"
        mended = (await changing.change(flags.to("notify"), by="ada", reason="")).generation
        await until_awaited(lambda: _equal(generations, [mended, mended]), "both follow still")


async def _equal(found: Any, wanted: list[int | None]) -> bool:
    return bool(await found() == wanted)


async def test_operators_need_their_token(system: Stack) -> None:
    """Without one set there are no operators; a wrong one is 401, and a change that can't be is 422."""
    async with serving(settings_of(system)) as client:
        assert (await client.http.get("/ops/flag", headers=TOKEN)).status_code == 404
    async with flags_of(system), serving(settings_of(system, operator_token="river")) as client:
        for headers in ({}, {"Authorization": "Bearer sea"}, {"Authorization": "Basic river"}):
            assert (await client.http.get("/ops/flag", headers=headers)).status_code == 401
            assert (await client.http.post("/ops/rollback", json={"by": "eve"}, headers=headers)).status_code == 401
        for body in ({"by": "ada"}, {"by": "ada", "default": "pigeon"}, {"by": "ada", "shares": {"pubsub": 200}}):
            assert (await client.http.put("/ops/flag", json=body, headers=TOKEN)).status_code == 422
        assert (await client.http.get("/ops/flag", headers=TOKEN)).json()["generation"] == 0


async def test_an_operator_changes_the_flag_over_http(system: Stack) -> None:
    """As the commands do: planned first, refused when somebody came first, and written down."""
    async with flags_of(system), serving(settings_of(system, operator_token="river")) as client:

        async def put(**body: Any) -> Any:
            return await client.http.put("/ops/flag", json={"by": "ada", **body}, headers=TOKEN)

        planned = (await put(default="notify", dry_run=True)).json()
        assert (planned["generation"], planned["said"]) == (None, "pubsub 100 % → notify 100 %")
        made = (await put(default="notify", reason="to see it")).json()["generation"]
        assert (await put(shares={"pubsub": 5}, expected=made - 1)).status_code == 409
        assert (await put(shares={"pubsub": 5}, expected=made)).status_code == 200
        assert (await put(user="eve", backend="streams")).status_code == 200
        rules = (await client.http.get("/ops/flag", headers=TOKEN)).json()["rules"]
        assert (rules["split"], rules["users"]) == ({"notify": 95.0, "pubsub": 5.0}, {"eve": "streams"})
        back = await client.http.post("/ops/rollback", json={"by": "ada"}, headers=TOKEN)
        assert back.json()["after"]["is_on"] is False
        assert (await client.answer(await client.post(backend="pubsub")))["backend"] == "polling", "nobody may force it"
        history = (await client.http.get("/ops/flag/history", headers=TOKEN)).json()
        assert history["broken_at"] is None
        assert [entry["by"] for entry in history["generations"]] == ["ada"] * 4
        assert history["generations"][-1]["reason"] == "to see it"


async def test_live_streams_leave_when_they_must_and_lose_nothing(client: Client, system: Stack) -> None:
    """Those that speak, and one that is silent: each viewer's text is whole, and is the one that was committed."""
    async with flags_of(system) as (changing, _, database):
        await until_awaited(partial(follows_no_flag, client, system), "the worker has forgotten other tests' flags")
        # Long enough to be under way still when a busy machine's worker hears of the flag and the gauges are read.
        scripts = ["ttft=0.02&gap=0.03&chunks=300"] * 4 + ["ttft=0.8&gap=0.8&chunks=8"]
        posted = {backend: [await client.post(script, backend=backend) for script in scripts] for backend in LEFT}

        async def handed_over(reason: str) -> list[float]:
            url = system.worker_metrics_urls[0]
            return [await at(client, url, "handovers_total", backend=name, reason=reason) for name in LEFT]

        before = await handed_over("asked"), await handed_over("lost")
        viewing = {
            backend: [asyncio.create_task(client.whole(each.task_id)) for each in streams]
            for backend, streams in posted.items()
        }

        async def begun_in(*places: str) -> bool:
            """Whether the streams posted to each backend are being answered in its place here."""
            async with database.driver() as connection:
                found = [
                    await connection.fetchval(BEGUN_IN, [each.task_id for each in streams], place)
                    for streams, place in zip(posted.values(), places, strict=True)
                ]
            return found == [len(scripts)] * len(LEFT)

        await until_awaited(partial(begun_in, *LEFT), "all are being answered")
        await changing.change(flags.back_to_safety(must_leave=True), by="ada", reason="")
        await until_awaited(partial(begun_in, "polling", "polling"), "all have left")
        assert (await handed_over("asked"), await handed_over("lost")) == ([one + 5 for one in before[0]], before[1])
        await until_awaited(partial(counted_in_safety, client, system), "the gauges have moved along")
        for backend in LEFT:
            for each, events in zip(posted[backend], await asyncio.gather(*viewing[backend]), strict=True):
                message = await client.answer(each)
                assert message["backend"] == "polling"
                assert message["status"] == "complete"
                assert text_of(events) == message["content"]
                # A viewer of `streams` looks only after a silence; an answer committed by then is told anew.
                began_anew = [event.record["chunk_type"] for event in events[-3:]] == ["reset", "content", "done"]
                seen = events[:-3] if began_anew and backend == "streams" else events
                assert [event.record["chunk_index"] for event in seen] == list(range(len(seen)))


async def test_a_change_is_marked_in_grafana(system: Stack) -> None:
    """With who and why, if it is one; a Grafana that is away or refuses holds nothing up."""
    marks: list[tuple[str, Any]] = []

    class Grafana(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            marks.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200 if len(marks) == 1 else 403)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Grafana)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = settings_of(
        system, operator_token="river", grafana_url=f"http://127.0.0.1:{server.server_port}", grafana_token="gauge"
    )
    try:
        async with flags_of(system), serving(settings) as client:
            for backend, reason in (("notify", "to see it"), ("notify", "no change"), ("streams", "refused")):
                body = {"by": "ada", "default": backend, "reason": reason}
                assert (await client.http.put("/ops/flag", json=body, headers=TOKEN)).status_code == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert marks[0][0] == "Bearer gauge"
    assert marks[0][1]["text"] == "flag: pubsub 100 % → notify 100 %, by ada: to see it"
    assert len(marks) == 2
