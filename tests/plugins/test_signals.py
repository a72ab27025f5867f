"""What a signal does to ansible-playbook while no host is held."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Ansible as it was seen to end: a worker that the signal has killed held the lock of the queue.
ANSIBLE = """
import multiprocessing, os, signal, sys
from tests.conftest import load_file
signals = load_file("plugins/callback/floodmark_signals.py")
signals.LONGEST_END_S = 1
callback = signals.CallbackModule()
callback._take_signals()
lock = multiprocessing.get_context("fork").Lock()
lock.acquire()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
finally:
    if sys.argv[2] == "blocked":
        lock.acquire()
"""


@pytest.mark.parametrize("ansible", ["blocked", "free"])
def test_an_ansible_that_does_not_end_after_a_signal_is_ended(ansible: str) -> None:
    command = ["env", "--default-signal=INT", sys.executable, "-c", ANSIBLE, str(int(signal.SIGINT)), ansible]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 130, done.stderr
