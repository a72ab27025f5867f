#!/usr/bin/python
DOCUMENTATION = r"""
module: host_file
short_description: Writes a small file in one round trip
description:
  - The copy and template actions look at the remote file first, then transfer, then move it, each over the
    network. What a run writes is small and goes along with the module itself.
options:
  path:
    description: The file; its folder must exist.
    type: path
    required: true
  content:
    description: All of it.
    type: str
    required: true
  validate:
    description: A command that must find the new file good before it replaces the old one; C(%s) is its path.
    type: str
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Write a file
  host_file:
    path: /etc/floodmark/nginx.conf
    content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"
    validate: nginx -t -q -c %s
"""
RETURN = r"""
"""

import os
import shlex
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "validate": {"type": "str"},
        },
        supports_check_mode=True,
    )
    path, content = Path(module.params["path"]), module.params["content"]
    if path.exists() and path.read_text(encoding="utf-8") == content:
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=str(path.parent))
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be written: {error.strerror}")
    try:
        validate(module, name)
        Path(name).chmod(0o644)  # nothing secret, and servers read it as other users
        module.atomic_move(name, str(path))
    finally:
        Path(name).unlink(missing_ok=True)
    module.exit_json(changed=True)


def validate(module, name):
    """Fail with the words of the validating command, if it does not find the file good."""
    command = module.params["validate"]
    if command:
        rc, out, err = module.run_command([part.replace("%s", name) for part in shlex.split(command)])
        if rc != 0:
            module.fail_json(
                msg=f"{module.params['path']} was not replaced, because '{command}' says: {(err or out).strip()}"
            )


if __name__ == "__main__":
    main()
