"""Action that starts Locust's web page, holds a case up for it, and asks it what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from floodmark.errors import FloodmarkError
from floodmark.inputs.inventory import CAPS, inventory_parameters
from floodmark.inputs.parameters import Parameters
from floodmark.owner import Owner
from floodmark.runner.way import way_of
from floodmark.values import Value
from floodmark.web import control
from floodmark.web.goaccess import missing
from floodmark.web.options import LOOPBACK, WebOptions


class ActionModule(ActionBase):
    """Takes a `state`.

    started: starts the page, which logs into `folder`; returns `control`, by which the other states reach it.
    held: tells the page what is held up (`hold`), and waits until it is to be left.
    asked: tells it why nothing was held up (`failure`, if so); returns the next `case`, None at the end.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        try:
            if arguments["state"] == "started":
                result.update(self._start(task_vars or {}, Path(arguments["folder"])))
            elif arguments["state"] == "held":
                hold = arguments["hold"]
                way = way_of(hold["host"], self._connection, self._play_context.remote_addr)
                control.ask(arguments["control"], {"hold": {**hold, "way": list[Value](way.shell)}})
            else:
                result.update(control.ask(arguments["control"], {"failure": arguments["failure"]}))
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _start(self, task_vars: dict[str, Any], folder: Path) -> dict[str, Any]:
        extra = load_extra_vars(self._loader)
        port, password = WebOptions.read(extra).port, control.new_password()
        settings = control.Settings(
            room=control.new_room(),
            password=password,
            owner=Owner.of_this_task(),
            layers=[
                inventory_parameters(task_vars),
                {name: value for name, value in extra.items() if name in Parameters.model_fields},
            ],
            caps=task_vars.get(CAPS, {}),
        )
        control.start(settings, port, folder / control.LOG)
        said = [f"Locust's web page is at http://{LOOPBACK}:{port}/, its password is {password}  (Ctrl-C ends it)"]
        if why := missing():
            said.append(f"Its tab 'Access log' is empty: {why}.")
        return {"control": settings.control, "say": "\n".join(said)}
