"""Action that holds a case for somebody at the terminal."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.inputs.status_page import StatusPage
from floodmark.model.run import Server
from floodmark.owner import Owner
from floodmark.runner.hold import wait_for_the_end
from floodmark.runner.way import way_of
from floodmark.show.hold import how_to_reach


class ActionModule(ActionBase):
    """Takes a `state`.

    said: says how host and case are reached, from the `plan` and what is of this `host`.
    waited: waits until Enter, until the run is to end, or until `at_most_s` are over.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        if arguments["state"] == "said":
            plan = arguments["plan"]
            way = way_of(arguments["host"], self._connection, self._play_context.remote_addr)
            result["say"] = how_to_reach(
                arguments["host"],
                f"Case {plan['case']['number']}, {plan['case']['title']}",
                target=arguments["target"],
                page=StatusPage.model_validate(plan["status_pages"][arguments["host"]]),
                servers=[Server.model_validate(one) for one in plan["servers"]],
                shell=[*way.ssh, way.host] if way.ssh else [],
                folder=arguments["folder"],
                at_most_s=plan["longest_s"],
            )
            return result
        wait_for_the_end(Owner.of_this_task(), float(arguments["at_most_s"]))
        return result
