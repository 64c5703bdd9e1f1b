"""Messages that wait in vain: what no producer will end."""

from app.broker import BrokerUnavailableError, Queue
from app.database import Database, DatabaseError
from app.records import Records
from app.repair import Finding as Matter
from app.repair import Repair
from app.settings import Settings
from app.streaming.contract import StoreUnavailableError
from app.streaming.pairs import open_backends
from ops.doctor.finding import Findings, error, shortened, well

CHECK = "messages"
IN_VAIN = {
    Matter.COMPLETE: "complete in their log and not in the database",
    Matter.LOST: "without a producer",
    Matter.GONE: "without a log",
    Matter.UNCLAIMED: "lost on their way to a worker",
}
AWAY = (DatabaseError, StoreUnavailableError, BrokerUnavailableError)


async def examine_messages(settings: Settings, *, repair: bool) -> Findings:
    """Count the messages that wait in vain; with `repair`, mend them."""
    try:
        async with (
            Database.connect(settings.database_url, 2, pooler=True) as database,  # also where the settings name none
            open_backends(settings, database) as backends,
            Queue.connect(settings.broker_url) as queue,
        ):
            mending = Repair(settings, Records(database), backends, queue)
            found = await (mending.run() if repair else mending.look())
    except AWAY as cause:
        yield error(CHECK, "can't be looked through", shortened(cause), "See what is said of the servers.")
        return
    in_vain = ", ".join(f"{found[matter]} {words}" for matter, words in IN_VAIN.items() if found[matter])
    if in_vain and not repair:
        yield error(CHECK, "some wait in vain", in_vain, "Run it with --repair.")
    else:
        yield well(CHECK, f"mended: {in_vain}" if in_vain else "none waits in vain")
