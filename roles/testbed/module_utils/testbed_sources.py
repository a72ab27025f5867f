"""Package sources of the Debian release that the testbed is made of.

A control node of that release lends its own sources. On any other Debian they are derived: the same mirrors, with the
suite replaced. apt itself reads the control node's sources, in both formats (sources.list(5)), and checks all
signatures against Debian's keyring.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.testbed import HostError

# Debian 13 has it as .pgp too, and Debian 12 as .gpg alone; hosts of either release find it by this name.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Releases that are never frozen, and so have no suites of updates beside them.
ROLLING = ("sid", "unstable")
# The repository 'http://mirror.example/debian nosuch Release' does not have a Release file.
MISSING_SUITE = re.compile(r"The repository '(\S+) (\S+) Release' does not have a Release file")


class Archive(NamedTuple):
    """One component of one suite that the control node's package sources name.

    Attributes:
        uri: the mirror.
        suite: the suite as the sources name it, such as stable.
        codename: the suite as the mirror names it, such as trixie or trixie-security.
        component: main, contrib, …
    """

    uri: str
    suite: str
    codename: str
    component: str


class Origin(NamedTuple):
    """Where packages of a release come from.

    Attributes:
        lines: package sources, as lines of sources.list.
        own: whether these are sources of the control node itself.
    """

    lines: list[str]
    own: bool


def run_apt(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of apt, which then answers in English."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def control_node_archives() -> list[Archive]:
    """Return what the control node's package sources have of Debian.

    Raises:
        HostError: they have nothing.
    """
    for update_first in (False, True):  # a fresh machine has no package lists, and apt then knows no codenames
        if update_first:
            run_apt("apt-get", "update")
        done = run_apt("apt-get", "indextargets", "--format",
                       "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)", "Created-By: Packages")  # fmt: skip
        # Debian|http://mirror.example/debian/|stable-updates|trixie-updates|main
        rows = {line.removeprefix("Debian|") for line in done.stdout.splitlines() if line.startswith("Debian|")}
        archives = sorted(Archive(*row.split("|")) for row in rows if not row.startswith("cdrom:"))
        if archives:
            return archives
    raise HostError(
        "this machine's package sources (apt-get indextargets) offer no Debian release, which the testbed is built "
        "from: add Debian's sources, or use hosts of your own (inventory/example/)"
    )


def find_origin(archives: list[Archive], release: str) -> Origin:
    """Return the package sources of a release: the control node's own, or others derived from them.

    Args:
        archives: what the control node's package sources have of Debian.
        release: codename of the wanted release.

    Raises:
        HostError: the name cannot be a release, or the sources have no main archive of Debian.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", release):
        raise HostError(
            f"testbed_release={release} is not the codename of a Debian release, such as bookworm or trixie"
        )
    own = [one for one in archives if one.codename.partition("-")[0] == release]
    if any(one.codename == release for one in own):
        return Origin([source_line(one.uri, one.suite, one.component) for one in own], own=True)
    main = [one for one in archives if "-" not in one.codename]
    if not main:
        raise HostError(
            "this machine's package sources have no main archive of Debian, only "
            f"{', '.join(sorted({one.codename for one in archives}))}: add one"
        )
    security = [one for one in archives if one.codename.endswith("-security")]
    suites = [(one, suite) for one in main for suite in (release, f"{release}-updates")]
    suites += [(one, f"{release}-security") for one in security]
    if release in ROLLING:
        suites = [(one, release) for one in main]
    lines = [source_line(one.uri, suite, one.component) for one, suite in suites]
    return Origin(list(dict.fromkeys(lines)), own=False)


def source_line(uri: str, suite: str, component: str) -> str:
    """Return a line of sources.list, whose packages are taken only with a signature by Debian's keys."""
    return f"deb [signed-by={KEYRING}] {uri} {suite} {component}"


class ReleaseSources:
    """Package sources of a release, and apt commands that use them.

    Sources that are not the control node's own have package lists of their own in the cache folder, so that the
    control node's apt keeps its configuration and its lists.

    Attributes:
        release: codename.
        lines: package sources, as lines of sources.list.
    """

    def __init__(self, release: str, cache_dir: Path) -> None:
        if not Path(KEYRING).exists():
            raise HostError(f"{KEYRING} is missing, with Debian's keys: install the package debian-archive-keyring")
        self.release = release
        archives = control_node_archives()
        self.lines, self._own = find_origin(archives, release)
        self._known = next(one.codename for one in archives if "-" not in one.codename)
        name = hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:12]
        self._folder = cache_dir / "apt" / f"{release}-{name}"
        self._fetched = False

    def apt(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        """Run apt-get or apt-cache on these sources and return what it prints.

        Args:
            program: its name.
            arguments: what it is asked.
            folder: where it runs.

        Raises:
            HostError: it failed, or there are no package lists yet and they cannot be fetched.
        """
        if self._own:
            done = run_apt(program, *arguments, folder=folder)
        else:
            if not (self._folder / "complete").exists():
                self.refresh()
            with self._locked(fcntl.LOCK_SH):
                done = run_apt(program, *self._options(), *arguments, folder=folder)
        if done.returncode != 0:
            raise HostError(f"{program} {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def refresh(self) -> bool:
        """Fetch the newest package lists, once, unless they are the control node's own; return whether it was done.

        Raises:
            HostError: a mirror does not have the release, does not answer, or a signature is not Debian's.
        """
        if self._own or self._fetched:
            return False
        for folder in ("lists/partial", "cache/archives/partial"):
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            (self._folder / "status").touch()
            (self._folder / "sources.list").write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
            # Without the mode, a mirror that does not answer is only a warning.
            done = run_apt("apt-get", *self._options(), "-o", "APT::Update::Error-Mode=any", "update")
            if done.returncode != 0:
                raise HostError(self._failure(done.stdout + done.stderr))
            (self._folder / "complete").touch()
        self._fetched = True
        return True

    @contextlib.contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        """Hold the package lists' lock, because all checkouts of the machine share them."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, operation)
            yield

    def _options(self) -> list[str]:
        """Return the options of apt that leave the control node's sources, lists, pins and packages out."""
        settings = {
            "Dir::Etc::sourcelist": f"{self._folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": str(self._folder),
            "Dir::State::lists": f"{self._folder}/lists",
            "Dir::State::status": f"{self._folder}/status",
            "Dir::Cache": f"{self._folder}/cache",
            "APT::Default-Release": "",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "true",
        }
        return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def _failure(self, said: str) -> str:
        """Return in one sentence why package lists could not be fetched."""
        missing = dict.fromkeys(f"{uri} has no {suite}" for uri, suite in MISSING_SUITE.findall(said))
        if missing:
            return (
                f"testbed_release={self.release} is not on the mirrors of this machine's package sources: "
                f"{', '.join(missing)}; name a release that they have, such as {self._known}"
            )
        errors = "; ".join(line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))) or said.strip()
        return (
            f"testbed_release={self.release}: its package lists cannot be fetched from the mirrors of this machine's "
            f"package sources; apt-get update says: {errors}"
        )
