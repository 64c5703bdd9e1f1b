"""The supervisor: what it promises about the processes it starts."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.processes import Command, PartFailedError, Process, StackError, identity
from ops.supervisor import Supervisor
from tests.ops.supervised import is_alive, record
from tests.support.waiting import until

FOREVER = "import signal; print('up', flush=True); signal.pause()"
NOTES_ITS_END = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True: signal.pause()
"""
HAS_A_CHILD = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", sys.argv[1]], start_new_session=True)
print(child.pid, flush=True)
signal.pause()
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def python(name: str, code: str, *arguments: str, kind: str = "script", stop_seconds: float = 5.0) -> Command:
    argv = (sys.executable, "-I", "-S", "-c", code, *arguments)
    return Command(name, kind, argv, dict(os.environ), Path("/"), stop_seconds=stop_seconds)


def says_up(process: Process) -> Callable[[], bool]:
    return lambda: "up" in process.log.read_text()


def started(supervisor: Supervisor, command: Command) -> Process:
    process = supervisor.start(command)
    supervisor.wait_ready(process, says_up(process), 10)
    return process


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that no supervisor started."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", FOREVER]) as process:
        yield process
        process.kill()


def test_what_was_started_has_ended_when_the_block_is_left(tmp_path: Path) -> None:
    """Leaving the block, by its end or by an error, leaves no process behind."""
    processes: list[Process] = []

    def fail() -> None:
        with Supervisor(tmp_path) as supervisor:
            processes.append(started(supervisor, python("part", FOREVER)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not processes[0].running


def test_parts_end_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    """What was started last ends first, so that nobody loses a server that he still needs."""
    notes = tmp_path / "notes"
    with Supervisor(tmp_path) as supervisor:
        for name in ("server", "worker", "api"):
            started(supervisor, python(name, NOTES_ITS_END, str(notes), name, kind=name))
    assert notes.read_text().split() == ["api", "worker", "server"]


def test_a_part_that_will_not_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    """A part that ignores its stop signal costs its own time limit and no more."""
    with Supervisor(tmp_path) as supervisor:
        process = started(supervisor, python("deaf", DEAF, stop_seconds=0.2))
        before = time.monotonic()
    assert not process.running
    assert 0.2 <= time.monotonic() - before < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_the_patience(tmp_path: Path, number: int) -> None:
    """Who presses Ctrl-C again while parts are ending does not have to wait for them."""
    with Supervisor(tmp_path) as supervisor:
        process = started(supervisor, python("deaf", DEAF, stop_seconds=60))
        pressing = threading.Timer(0.3, os.kill, (os.getpid(), number))
        pressing.start()
        before = time.monotonic()
    pressing.join()
    assert not process.running
    assert time.monotonic() - before < 10


def test_parts_of_a_kind_are_killed_at_once_and_that_is_no_crash(tmp_path: Path) -> None:
    """However long they would take; the others go on."""
    with Supervisor(tmp_path) as supervisor:
        deaf = started(supervisor, python("deaf", DEAF, kind="worker", stop_seconds=60))
        other = started(supervisor, python("other", FOREVER))
        supervisor.kill("worker")
        supervisor.check()
        assert (deaf.running, other.running) == (False, True)


def test_a_paused_part_can_be_stopped(tmp_path: Path) -> None:
    """A part that a test has paused still ends in its orderly way."""
    notes = tmp_path / "notes"
    with Supervisor(tmp_path) as supervisor:
        started(supervisor, python("part", NOTES_ITS_END, str(notes), "orderly")).pause()
    assert notes.read_text().split() == ["orderly"]


def test_a_crash_ends_the_watch_with_the_name_and_the_log(tmp_path: Path) -> None:
    """When one part ends by itself the error says which, how, and what it last said; the others are ended."""
    processes: list[Process] = []

    def lose_a_part() -> None:
        with Supervisor(tmp_path) as supervisor:
            processes.append(started(supervisor, python("other", FOREVER)))
            supervisor.start(python("frail", "import sys; sys.exit('out of milk')"))
            supervisor.watch()

    with pytest.raises(PartFailedError, match=r"(?s)frail ended with exit code 1.*out of milk"):
        lose_a_part()
    assert not processes[0].running


def test_a_crash_inside_the_block_is_not_lost(tmp_path: Path) -> None:
    """A block that fails because a part died under it reports the part; its own error is the cause."""

    def lose_a_part() -> None:
        with Supervisor(tmp_path) as supervisor:
            process = started(supervisor, python("part", FOREVER))
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: not process.running, "the part has ended")
            raise ConnectionError("nobody there")

    with pytest.raises(PartFailedError, match="was ended by SIGKILL") as failure:
        lose_a_part()
    assert isinstance(failure.value.__cause__, ConnectionError)


def test_an_end_that_was_asked_for_is_no_crash(tmp_path: Path) -> None:
    """A test may kill a part and start it again on its old ports."""
    with Supervisor(tmp_path) as supervisor:
        process = started(supervisor, python("part", FOREVER))
        process.kill()
        supervisor.check()
        supervisor.restart(process)
        assert process.running
        assert process.log.read_text().startswith("up")


def test_waiting_ends_at_once_when_the_part_has_ended(tmp_path: Path) -> None:
    """Nobody waits out the time limit of a part that is already gone."""
    before = time.monotonic()

    def wait_for_it() -> None:
        with Supervisor(tmp_path) as supervisor:
            process = supervisor.start(python("part", "import sys; sys.exit('no such setting')"))
            supervisor.wait_ready(process, lambda: False, 60)

    with pytest.raises(PartFailedError, match="no such setting"):
        wait_for_it()
    assert time.monotonic() - before < 10


def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """A part that hangs while it starts fails the start after its time limit, with its log."""
    with Supervisor(tmp_path) as supervisor:
        process = started(supervisor, python("part", FOREVER))
        with pytest.raises(PartFailedError, match=r"(?s)was not ready within 0.3 s.*up"):
            supervisor.wait_ready(process, lambda: False, 0.3)


def test_a_step_that_fails_says_why(tmp_path: Path) -> None:
    """A command that should end well and does not, ends the start with its output."""
    with (
        pytest.raises(PartFailedError, match=r"(?s)step ended with exit code 3.*column"),
        Supervisor(tmp_path) as supervisor,
    ):
        supervisor.run(python("step", "import sys; print('no such column'); sys.exit(3)"), 10)


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing program is named in the error."""
    missing = Command("part", "part", ("/no/such/program",), {}, Path("/"))
    with pytest.raises(PartFailedError, match="cannot start /no/such/program"), Supervisor(tmp_path) as supervisor:
        supervisor.run(missing, 10)


def test_one_supervisor_a_folder(tmp_path: Path) -> None:
    """A second one is refused and told who is there; once the first has gone the folder is free."""
    with (
        Supervisor(tmp_path),
        pytest.raises(StackError, match=f"Process {os.getpid()} already runs"),
        Supervisor(tmp_path),
    ):
        pass
    with Supervisor(tmp_path):
        pass


def test_leftovers_of_a_killed_supervisor_are_ended(tmp_path: Path, bystander: "subprocess.Popen[bytes]") -> None:
    """What an earlier supervisor recorded and could not end, the next one of the folder ends before it begins."""
    record(Supervisor(tmp_path), bystander.pid, identity(bystander.pid))
    with Supervisor(tmp_path):
        assert bystander.wait(10) == -signal.SIGTERM


def test_paused_leftovers_are_ended_with_their_children(tmp_path: Path) -> None:
    """As those of a database that was paused when its supervisor was killed: each of its sessions is a child."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HAS_A_CHILD, FOREVER], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        known = [(pid, identity(pid)) for pid in (parent.pid, child)]
        record(Supervisor(tmp_path), *known[0])
        for pid, _ in known:
            os.kill(pid, signal.SIGSTOP)
        with Supervisor(tmp_path):
            assert parent.wait(10) == -signal.SIGTERM
            assert not any(is_alive(entry) for entry in known)


def test_a_process_that_only_has_the_old_pid_is_left_alone(
    tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    """A recorded pid that has since gone to somebody else's process is nobody we may end."""
    record(Supervisor(tmp_path), bystander.pid, "another boot:1")
    with Supervisor(tmp_path):
        assert bystander.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_parts_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """After a kill -9 of the supervisor its parts end without anybody's help."""
    code = f"""
from pathlib import Path
from tests.ops.test_supervisor import *
with Supervisor(Path({str(tmp_path)!r})) as supervisor:
    print(started(supervisor, python("part", FOREVER)).pid, flush=True)
    supervisor.watch()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        part = (pid, identity(pid))
        assert is_alive(part)
        supervisor.kill()
    until(lambda: not is_alive(part), "the part has ended")
