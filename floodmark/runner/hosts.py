"""Asks the hosts of an inventory who holds them and what deviates there from what was before, and puts it back.

Without a run, and whatever version of Floodmark has left something: the program that knows it is sent along
(roles/guard/files/lease.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from floodmark.errors import FloodmarkError
from floodmark.model.host_status import Answers, HostStatus
from floodmark.paths import ROOT, relative
from floodmark.runner.case_player import need_setpriv, run_ansible
from floodmark.show.progress import message_of

ASK = "Ask what deviates"


def take(answers: Answers, event: Mapping[str, object]) -> None:
    """Take what an event of ansible-runner says."""
    data = cast("Mapping[str, Any]", event.get("event_data", {}))
    host, result = str(data.get("host")), data.get("res") or {}
    if event["event"] in ("runner_on_failed", "runner_on_unreachable"):
        said = str(result.get("stderr") or "").strip().removeprefix("lease: ") or message_of(result)
        answers.failures[host] = " ".join(said.split())
    elif event["event"] == "runner_on_ok" and data.get("task") == ASK:
        # {"run": null, "floods": [], "left": ["floodmark-nginx.service is still active"], "unfetched": []}
        try:
            answers.statuses[host] = HostStatus.model_validate_json(str(result.get("stdout", "")))
        except ValidationError:
            answers.failures[host] = f"its answer cannot be read: {result.get('stdout')!r}"


def ask_hosts(inventory: Path, *, restore: bool, force: bool = False) -> Answers:
    """Ask all hosts of an inventory, and put back what deviates if that is wanted.

    Args:
        inventory: where the hosts are described.
        restore: whether to put it back.
        force: whether to end runs that go on.

    Raises:
        FloodmarkError: setpriv is missing, or Ansible has asked nobody.
    """
    need_setpriv()
    playbook = ROOT / "playbooks" / ("host-restore.yml" if restore else "host-status.yml")
    answers = Answers()
    with tempfile.TemporaryDirectory(prefix="floodmark-") as scratch:
        run_ansible(
            ROOT, playbook, inventory.absolute(), {"force": force}, Path(scratch) / "ansible-runner",
            lambda event: take(answers, event),
        )  # fmt: skip
    if not answers.statuses and not answers.failures:
        raise FloodmarkError(
            f"no host of {inventory} was asked: 'ansible-playbook -i {inventory} {relative(playbook)}' says why."
        )
    return answers
