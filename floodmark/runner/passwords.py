"""Passwords for the programs of Ansible that Floodmark starts: those for root on the hosts, and those of vaults.

Ansible reads a password from a file, which it wants to find under its name. The file is in memory (tmpfs), for its user
alone, and is removed when nobody needs it any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from getpass import getpass
from pathlib import Path
from tempfile import NamedTemporaryFile

MEMORY = Path("/dev/shm")
# Settings of ansible.cfg, as the environment has them.
BECOME, VAULTS = "ANSIBLE_BECOME_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"


@contextmanager
def handed_on(become: str = "", vaults: Sequence[tuple[str, bytes]] = ()) -> Iterator[None]:
    """Let Ansible find passwords as long as this lasts.

    Args:
        become: for root on the hosts; empty where none is needed.
        vaults: name and password of each vault.
    """
    with ExitStack() as stack:
        settings = {}
        if become:
            settings[BECOME] = stack.enter_context(_in_memory(become.encode()))
        if vaults:
            settings[VAULTS] = ",".join(f"{name}@{stack.enter_context(_in_memory(secret))}" for name, secret in vaults)
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def ask(*, become: bool, vault: bool) -> tuple[str, list[tuple[str, bytes]]]:
    """Ask at the terminal for the passwords that are wanted, as Ansible does."""
    asked = getpass("BECOME password: ") if become else ""
    return asked, [("default", getpass("Vault password: ").encode())] if vault else []


@contextmanager
def _in_memory(secret: bytes) -> Iterator[str]:
    """Provide the path of a file that holds a secret."""
    with NamedTemporaryFile(prefix="floodmark-", dir=MEMORY if MEMORY.is_dir() else None) as file:
        file.write(secret + b"\n")
        file.flush()
        yield file.name
