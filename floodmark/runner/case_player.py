"""Makes one run of a case from Python, through ansible-runner.

Whatever ends this process ends Ansible too: a signal is passed on, and where there was no time for that (SIGKILL)
the kernel sends one. So no run goes on that nobody waits for.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

import ansible_runner
import psutil

from floodmark.disk import make_folder, open_log
from floodmark.errors import FloodmarkError, Interrupted
from floodmark.runs.folders import RunFolder
from floodmark.show.progress import message_of
from floodmark.values import Variables

PROGRAMS = Path(sys.executable).parent
# How often a signal is seen (s), and how long Ansible may take to end in order: to restore hosts, fetch and judge.
TICK_S = 1
PATIENCE_S = 60
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Stop:
    """The wish to end, as a signal expresses it; a second one wants it at once."""

    wanted_at: float | None = None
    number: int = signal.SIGINT
    at_once: bool = False
    _passed_on: bool = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take the signals that end a process, as long as runs are made."""
        # What is ignored stays so: nohup(1) wants to live on when its terminal has gone.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._want) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _want(self, number: int, _frame: FrameType | None) -> None:
        self.at_once = self.wanted_at is not None
        if self.wanted_at is None:
            self.wanted_at, self.number = time.monotonic(), number

    def end(self, sentence: str) -> Interrupted:
        """Return what is raised when it is heeded."""
        return Interrupted(sentence, self.number)

    def pass_on(self) -> bool:
        """Ask Ansible to end, once; return True when it had time enough, or is to have no more."""
        if self.wanted_at is None:
            return False
        if not self._passed_on:
            self._passed_on = True
            for child in psutil.Process().children():
                child.send_signal(signal.SIGTERM)
        return self.at_once or time.monotonic() - self.wanted_at > PATIENCE_S


def need_setpriv() -> None:
    """Make sure that the program is there that ties Ansible to this process.

    Raises:
        FloodmarkError: it is not.
    """
    if shutil.which("setpriv") is None:
        raise FloodmarkError("the program setpriv is missing: it is part of util-linux, install that package.")


@dataclass
class Play:
    """One run as Ansible makes it: what is known of it from its events.

    Attributes:
        on_plan: is told the run's folder when there is one.
        on_task: is told the name of each task that begins.
        on_tick: is called once a second, and with each task.
        stop: ends it.
        folder: of the run, when it was planned.
        why: what a task said that failed.
    """

    on_plan: Callable[[RunFolder], None]
    on_task: Callable[[str], None]
    on_tick: Callable[[], None]
    stop: Stop
    folder: RunFolder | None = None
    why: str = ""
    _log: TextIO | None = field(default=None, repr=False)
    _given: Path | None = field(default=None, repr=False)

    def make(
        self, project: Path, inventory: Path, limit: Sequence[str], extra: Variables, scratch: Path, log: Path
    ) -> RunFolder | None:
        """Run Ansible until it ends.

        Args:
            project: the checkout.
            inventory: where the hosts are described.
            limit: the proxy hosts to measure; none of them is all.
            extra: what `-e` would give.
            scratch: a folder for ansible-runner; it is emptied.
            log: the file that what Ansible says is added to.

        Returns:
            The run, if it came to its end, and nobody ended it.
        """
        make_folder(log.parent, exist_ok=True)
        self._given = scratch / "env" / "extravars"
        with open_log(log) as self._log:
            run_ansible(
                project, project / "run-case.yml", inventory, extra, scratch, self._on_event, self._on_tick,
                limit=",".join([*limit, "load_generators", "localhost"]) if limit else None,
            )  # fmt: skip
        return self.folder if self.folder is not None and self.folder.is_finished else None

    def _on_event(self, event: Mapping[str, object]) -> None:
        """Take what an event of Ansible says."""
        data = cast("Mapping[str, Any]", event.get("event_data", {}))
        result = data.get("res") or {}
        if event.get("stdout") and self._log:
            print(event["stdout"], file=self._log, flush=True)
        if event["event"] == "playbook_on_start" and self._given:
            # Ansible has read it. It may have secrets, and would stay if this process were killed.
            self._given.unlink(missing_ok=True)
        elif event["event"] == "playbook_on_task_start":
            self.on_task(data.get("task", ""))
        elif event["event"] == "runner_on_ok" and data.get("task_action") == "floodmark_plan":
            self.folder = RunFolder(Path(result["plan"]["folder"]))
            self.on_plan(self.folder)
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            self.why = f"host {data.get('host')}: {' '.join(message_of(result).split()).rstrip('.')}"

    def _on_tick(self) -> bool:
        """Pass a signal on, and tell whether to end Ansible by force."""
        self.on_tick()
        return self.stop.pass_on()


def run_ansible(
    project: Path,
    playbook: Path,
    inventory: Path,
    extra: Variables,
    scratch: Path,
    on_event: Callable[[Mapping[str, object]], None],
    on_tick: Callable[[], bool] | None = None,
    *,
    limit: str | None = None,
) -> None:
    """Run a playbook until it ends, or until this process does.

    Args:
        project: the checkout.
        playbook: of it.
        inventory: where the hosts are described.
        extra: what `-e` would give.
        scratch: a folder for ansible-runner; it is emptied.
        on_event: is told each event of ansible-runner.
        on_tick: is called once a second, and tells whether to end Ansible by force.
        limit: the hosts, as `--limit` has them.
    """

    def on_its_event(event: Mapping[str, object]) -> bool:
        on_event(event)
        return False  # it need not be kept

    with _empty_folder(scratch):
        ansible_runner.run(
            private_data_dir=str(scratch),
            project_dir=str(project),
            # The kernel ends Ansible when this process is gone.
            binary="setpriv",
            cmdline=shlex.join(["--pdeathsig", "TERM", str(PROGRAMS / "ansible-playbook"), str(playbook)]),
            inventory=str(inventory),
            limit=limit,
            extravars=dict(extra),
            envvars={
                # ansible-runner would trust any host key.
                "ANSIBLE_HOST_KEY_CHECKING": "True",
                "ANSIBLE_NOCOLOR": "True",
                # It adds its own callbacks to these, and would replace those of ansible.cfg.
                "ANSIBLE_CALLBACK_PLUGINS": os.environ.get(
                    "ANSIBLE_CALLBACK_PLUGINS", str(project / "plugins/callback")
                ),
            },
            # It would keep facts from one run to the next.
            fact_cache_type="memory",
            settings={"pexpect_timeout": TICK_S, "suppress_output_file": True},
            quiet=True,
            event_handler=on_its_event,
            cancel_callback=on_tick,
        )


@contextmanager
def _empty_folder(path: Path) -> Iterator[Path]:
    """Provide a folder for ansible-runner, which keeps the environment there; nobody else may read it."""
    shutil.rmtree(path, ignore_errors=True)  # of a process that was killed
    path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
