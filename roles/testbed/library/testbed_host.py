#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: testbed_host
short_description: Starts and stops hosts of the built-in testbed
description:
  - A host is a container (nspawn) or a virtual machine (qemu) with its own systemd, sshd and network, on a
    writable layer above a shared root file system. All names follow from the folder that holds the state.
  - Starting a host that runs is harmless; one that a killed run left half alive is replaced.
options:
  name:
    description: Name of the host; not needed to stop all.
    type: str
  state:
    description:
      - V(probed) tells whether a host runs, V(started) starts one host, V(absent) stops all hosts of the folder
        and removes everything.
    type: str
    required: true
    choices: [probed, started, absent]
  state_dir:
    description: Folder that holds the state of this checkout's testbed.
    type: path
    required: true
  wanted:
    description:
      - What the host is to be, in variables. A host that runs and is something else, another kernel say, is
        started anew. Of files named here the time of their last change counts too.
    type: dict
    default: {}
  container:
    description: Start a container, made of this.
    type: dict
    suboptions:
      tree: {type: path, required: true, description: The root file system that the host is a layer above.}
  virtual_machine:
    description: Start a virtual machine, made of this.
    type: dict
    suboptions:
      disk: {type: path, required: true, description: Image of the root file system.}
      kernel: {type: str, default: "", description: Image of the kernel; empty is what the disk boots by itself.}
      initramfs: {type: str, default: "", description: Archive with the first program.}
      modules: {type: str, default: "", description: Image of a file system with the kernel's modules.}
      accelerator: {type: str, default: auto, choices: [auto, kvm, tcg], description: What runs the guest's code.}
      arguments: {type: str, default: "", description: More arguments of the kernel.}
      memory_mb: {type: int, default: 512, description: Size of its memory.}
  fresh:
    description: Boot the host in any case, also when it runs already.
    type: bool
    default: false
  boot_timeout_s:
    description: How long the host may take to boot.
    type: int
    default: 60
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Start a host
  testbed_host:
    name: proxy1
    state: started
    state_dir: /root/floodmark/.testbed
    container: {tree: /var/cache/floodmark/bookworm-0123456789ab}
"""
RETURN = r"""
address:
  description: Address of the host.
  type: str
  returned: when O(state=started)
running:
  description: Whether the host runs as it is wanted and its sshd answers.
  type: bool
  returned: when O(state=probed)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testbed import Host, HostError, Testbed
from ansible.module_utils.testbed_nspawn import Container
from ansible.module_utils.testbed_qemu import VirtualMachine


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "required": True, "choices": ["probed", "started", "absent"]},
            "state_dir": {"type": "path", "required": True},
            "wanted": {"type": "dict", "default": {}},
            "container": {"type": "dict", "options": {"tree": {"type": "path", "required": True}}},
            "virtual_machine": {
                "type": "dict",
                "options": {
                    "disk": {"type": "path", "required": True},
                    "kernel": {"type": "str", "default": ""},
                    "initramfs": {"type": "str", "default": ""},
                    "modules": {"type": "str", "default": ""},
                    "accelerator": {"type": "str", "default": "auto", "choices": ["auto", "kvm", "tcg"]},
                    "arguments": {"type": "str", "default": ""},
                    "memory_mb": {"type": "int", "default": 512},
                },
            },
            "fresh": {"type": "bool", "default": False},
            "boot_timeout_s": {"type": "int", "default": 60},
        },
        required_if=[
            ("state", "probed", ["name"]),
            ("state", "started", ["name"]),
            ("state", "started", ["container", "virtual_machine"], True),
        ],
        mutually_exclusive=[("container", "virtual_machine")],
    )
    given = module.params
    testbed = Testbed(given["state_dir"])
    try:
        if given["state"] == "absent":
            module.exit_json(changed=testbed.remove())
        if given["state"] == "probed":
            module.exit_json(changed=False, running=Host(testbed, given["name"]).runs(given["wanted"]))
        host: Host = (
            Container(testbed, given["name"], **given["container"])
            if given["container"]
            else VirtualMachine(testbed, given["name"], **given["virtual_machine"])
        )
        changed = host.start(given["wanted"], given["boot_timeout_s"], fresh=given["fresh"])
        module.exit_json(changed=changed, address=host.address)
    except (HostError, OSError) as failure:
        module.fail_json(msg=str(failure))


if __name__ == "__main__":
    main()
