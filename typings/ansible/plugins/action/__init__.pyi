from typing import Any

class ActionBase:
    # Ansible's objects, of which little is public.
    _task: Any
    _connection: Any
    _play_context: Any
    _loader: Any
    _templar: Any

    def _execute_module(
        self, module_name: str, module_args: dict[str, Any], *, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]: ...
    def _low_level_execute_command(
        self, cmd: str, sudoable: bool = True, in_data: bytes | None = None
    ) -> dict[str, Any]: ...
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]: ...
