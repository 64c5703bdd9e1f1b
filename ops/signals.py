"""What the signals that end a program do instead, for the length of a block."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_call(action: Callable[[], None]) -> Iterator[None]:
    """Let the signals that end a program call `action` instead; only the main thread can have that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: action()) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does, even where a shell had Ctrl-C ignored."""
    with signals_call(_interrupt):
        yield


def _interrupt() -> None:
    raise KeyboardInterrupt
