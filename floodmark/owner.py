"""The process that a run belongs to, ansible-playbook: whether it lives, and whether it is to end.

Ansible forks a process for each task, and what that process starts is in no session with the terminal. So a signal
reaches ansible-playbook alone, which tells the others by a descriptor that all of them have inherited.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The event of this process and of all that it forks; made when ansible-playbook loads its callbacks.
_wish: int | None = None


def prepare_wish() -> None:
    """Make the descriptor by which the wish to end reaches those that are forked from now on."""
    global _wish  # noqa: PLW0603 - it has to be there before Ansible forks
    if _wish is None:
        _wish = os.eventfd(0)


def wish_to_end() -> None:
    """Let all that works for this process know that it is to end; they know it from now on."""
    if _wish is not None:
        os.eventfd_write(_wish, 1)


def is_to_end() -> bool:
    """Tell whether somebody wishes the end."""
    return _wish is not None and bool(select.select([_wish], [], [], 0)[0])


@dataclass(frozen=True)
class Owner:
    """A process that others work for.

    Attributes:
        pid: of the process.
        died: a descriptor that can be read when it has ended (pidfd_open(2)).
        ends: a descriptor that can be read when it is to end (eventfd(2)).
    """

    pid: int
    died: int
    ends: int

    @classmethod
    def of_this_task(cls) -> Owner:
        """Return the owner of a task, seen from the process that Ansible has forked for it."""
        prepare_wish()
        assert _wish is not None
        return cls.of(os.getppid(), _wish)

    @classmethod
    def of(cls, pid: int, ends: int | None = None) -> Owner:
        """Return a process as an owner.

        Args:
            pid: of it.
            ends: the descriptor that can be read when it is to end; a new one otherwise.
        """
        return cls(pid, os.pidfd_open(pid), os.eventfd(0) if ends is None else ends)

    @property
    def descriptors(self) -> Sequence[int]:
        """What a program that is started has to inherit, to be an owner there too."""
        return (self.died, self.ends)

    def is_gone(self) -> bool:
        """Tell whether the process has ended."""
        return bool(select.select([self.died], [], [], 0)[0])

    def is_to_end(self) -> bool:
        """Tell whether the process is to end."""
        return bool(select.select([self.ends], [], [], 0)[0])

    def is_stopped(self) -> bool:
        """Tell whether the process stands still, by SIGSTOP or under a debugger."""
        # 812 (ansible-playboo) T 811 812 811 34816 …
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False  # it has ended
        return state in ("T", "t")
