from typing import Any

from ansible.inventory.host import Host
from ansible.playbook.task import Task

class CallbackTaskResult:
    host: Host
    task: Task
    result: dict[str, Any]
