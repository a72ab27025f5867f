#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: testbed_virtual
short_description: Boots hosts of the testbed in virtual time
description:
  - A start state is the disk of a host that was provisioned over ssh and has powered off. It is booted again with
    an emulated processor whose clock counts instructions, without a network; the guest measures itself and powers off.
options:
  name:
    description: Name of the host.
    type: str
    required: true
  state:
    description:
      - V(probed) tells whether the start state is there, V(saved) makes it of the disk of this host, which is powering
        off, and V(measured) boots it.
    type: str
    required: true
    choices: [probed, saved, measured]
  state_dir:
    description: Folder that holds the state of this checkout's testbed.
    type: path
    required: true
  start_state:
    description: Its name, which changes with all that was installed and configured.
    type: str
    required: true
  machine:
    description: What is booted.
    type: dict
    suboptions:
      kernel: {type: path, required: true, description: Image of the kernel.}
      initramfs: {type: path, required: true, description: Archive with the first program.}
      modules: {type: str, default: "", description: Image of a file system with the kernel's modules.}
      arguments: {type: str, default: "", description: More arguments of the kernel.}
      memory_mb: {type: int, default: 512, description: Size of its memory.}
  config:
    description: What the guest measures; its file /etc/floodmark/virtual.json.
    type: dict
  seed:
    description: Of all random numbers of the boot.
    type: int
  results:
    description: Folder for what comes of it, host.tar.gz, console.log and virtual.json.
    type: path
  timeout_s:
    description: How long a boot with its measurement may take.
    type: int
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Look whether the disk is there
  testbed_virtual:
    name: linux61
    state: probed
    state_dir: /root/floodmark/.testbed
    start_state: 0123456789ab
"""
RETURN = r"""
exists:
  description: Whether the start state is there.
  type: bool
  returned: when O(state=probed)
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testbed import Host, HostError, Testbed
from ansible.module_utils.testbed_virtual import StartState, VirtualTime, wait_until_powered_off


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": ["probed", "saved", "measured"]},
            "state_dir": {"type": "path", "required": True},
            "start_state": {"type": "str", "required": True},
            "machine": {
                "type": "dict",
                "options": {
                    "kernel": {"type": "path", "required": True},
                    "initramfs": {"type": "path", "required": True},
                    "modules": {"type": "str", "default": ""},
                    "arguments": {"type": "str", "default": ""},
                    "memory_mb": {"type": "int", "default": 512},
                },
            },
            "config": {"type": "dict"},
            "seed": {"type": "int"},
            "results": {"type": "path"},
            "timeout_s": {"type": "int"},
        },
        required_if=[("state", "measured", ["machine", "config", "seed", "results", "timeout_s"])],
    )
    given = module.params
    testbed = Testbed(given["state_dir"])
    start_state = StartState(testbed, given["start_state"])
    try:
        if given["state"] == "probed":
            module.exit_json(changed=False, exists=start_state.exists())
        if given["state"] == "saved":
            host = Host(testbed, given["name"])
            wait_until_powered_off(host)
            start_state.save(host.folder / "disk.qcow2")
        else:
            machine = VirtualTime(testbed, given["name"], given["start_state"], **given["machine"])
            machine.measure(given["config"], given["seed"], Path(given["results"]), given["timeout_s"])
        module.exit_json(changed=True)
    except (HostError, OSError) as failure:
        module.fail_json(msg=str(failure))


if __name__ == "__main__":
    main()
