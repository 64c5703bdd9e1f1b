"""What processes have used, while others of them come and go."""

import subprocess

from loadtest.bench.processes import cpu_s, rss_bytes

FORKING = "while [ $((i += 1)) -le 10000 ]; do for _ in 1 2 3 4 5 6 7 8; do sleep 0.001 & done; wait; done"
LOOKS = 300


def test_a_child_that_ends_meanwhile_is_left_out() -> None:
    """A database ends its sessions' processes at any time: that is no reason to lose a measurement."""
    with subprocess.Popen(["/bin/sh", "-c", FORKING]) as parent:
        try:
            for _ in range(LOOKS):
                assert set(cpu_s([("shell", parent.pid)])) == {"client", "shell"}
                assert set(rss_bytes([("shell", parent.pid)])) == {"shell"}
        finally:
            parent.kill()
