"""Action that holds a case for somebody at the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.inputs.status_page import StatusPage
from floodmark.model.run import Server
from floodmark.runner.hold import LEAVE, heartbeat, wait_for_the_end
from floodmark.show.hold import how_to_reach


class ActionModule(ActionBase):
    """Takes a `state`.

    said: says how host and case are reached, from the `plan` and what is of this `host`.
    waited: keeps the host as it is, by the `way` to it, until the terminal or a file in `folder` says that the case is
        to be left, or `at_most_s` are over.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        if arguments["state"] == "said":
            plan = arguments["plan"]
            result["say"] = how_to_reach(
                arguments["host"],
                f"Case {plan['case']['number']}, {plan['case']['title']}",
                target=arguments["target"],
                page=StatusPage.model_validate(plan["status_pages"][arguments["host"]]),
                servers=[Server.model_validate(one) for one in plan["servers"]],
                shell=arguments["shell"],
                folder=arguments["folder"],
                at_most_s=plan["longest_s"],
            )
            return result
        # This is a forked worker of the process that runs the playbook.
        ansible_pid = os.getppid()
        with heartbeat(arguments["way"], ansible_pid):
            wait_for_the_end(ansible_pid, Path(arguments["folder"]) / LEAVE, float(arguments["at_most_s"]))
        return result
