from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from bot.liveness import FileLeases, leased

HOLDER = """
import sys, time
from pathlib import Path
from bot.liveness import FileLeases
leases = FileLeases(Path(sys.argv[1]))
assert leases.take("worker")
print("held", flush=True)
time.sleep(60)
"""


def test_a_lease_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    one, other = FileLeases(tmp_path), FileLeases(tmp_path)
    assert one.take("worker")
    assert not other.take("worker")
    one.release("worker")
    assert other.take("worker")


def test_a_lease_of_another_is_seen_and_ones_own_is_not(tmp_path: Path) -> None:
    one, other = FileLeases(tmp_path), FileLeases(tmp_path)
    one.take("worker")
    assert other.held()
    assert not one.held()


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        leases = FileLeases(tmp_path)
        assert leases.held()
        assert not leases.take("worker")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert leases.take("worker")


def test_a_lease_for_a_while_is_given_back(tmp_path: Path) -> None:
    one, other = FileLeases(tmp_path), FileLeases(tmp_path)
    with leased(one, "worker") as mine, leased(other, "worker") as theirs:
        assert (mine, theirs) == (True, False)
    with leased(other, "worker") as theirs:
        assert theirs
