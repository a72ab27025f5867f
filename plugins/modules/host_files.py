#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Writes small files in one round trip
description:
  - The copy and template actions look at each remote file first, then transfer, then move it, each over the
    network. What Floodmark writes is small and goes along with the module itself, all files of a task together.
options:
  files:
    description: What to write; folders that are missing are created.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: All of it.
        type: str
        required: true
      mode:
        description: Its permissions, octal.
        type: str
        default: "0644"
      validate:
        description: A command that must find the new file good before it replaces the old one; C(%s) is its path.
        type: str
  folders:
    description: Folders that have to exist besides.
    type: list
    elements: path
    default: []
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Write a file
  host_files:
    files:
      - path: /etc/floodmark/nginx.conf
        content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"
        validate: nginx -t -q -c %s
"""
RETURN = r"""
"""

import os
import shlex
import tempfile
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.basic import AnsibleModule

FOLDER_MODE = 0o755


class File(TypedDict):
    """One of the files, as the task gives it."""

    path: str
    content: str
    mode: str
    validate: str | None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                },
            },
            "folders": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    folders = [Path(path) for path in module.params["folders"] if not Path(path).is_dir()]
    files: list[File] = [file for file in module.params["files"] if not is_there(file)]
    if not module.check_mode:
        for folder in folders:
            create(module, folder)
        for file in files:
            write(module, file)
    module.exit_json(changed=bool(folders or files))


def is_there(file: File) -> bool:
    """Tell whether a file has the content and the permissions that are wanted."""
    path = Path(file["path"])
    return (
        path.is_file()
        and path.read_bytes() == file["content"].encode()
        and path.stat().st_mode & 0o7777 == int(file["mode"], 8)
    )


def create(module: AnsibleModule, folder: Path) -> None:
    """Create a folder and those above it, whatever the umask is."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        for one in reversed(missing):
            one.mkdir()
            one.chmod(FOLDER_MODE)
    except OSError as error:
        module.fail_json(msg=f"the folder {folder} cannot be created: {error.strerror}")


def write(module: AnsibleModule, file: File) -> None:
    """Replace a file as a whole."""
    path = Path(file["path"])
    create(module, path.parent)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=str(path.parent))
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(file["content"])
            opened.flush()
            # The next boot must not find an empty file, even if the power fails now.
            os.fsync(opened.fileno())
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be written: {error.strerror}")
    try:
        validate(module, file, name)
        Path(name).chmod(int(file["mode"], 8))
        # Not atomic_move(), which gives the new file the permissions that the old one had.
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def validate(module: AnsibleModule, file: File, name: str) -> None:
    """Fail with the words of the validating command, if it does not find the file good."""
    if file["validate"]:
        rc, out, err = module.run_command([part.replace("%s", name) for part in shlex.split(file["validate"])])
        if rc != 0:
            module.fail_json(
                msg=f"{file['path']} was not replaced, because '{file['validate']}' says: {(err or out).strip()}"
            )


if __name__ == "__main__":
    main()
