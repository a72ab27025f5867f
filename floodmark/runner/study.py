"""Makes the study's run-cases and labs as its author ran them: an execution of the lab `study`.

It goes on where it was ended. Of several executions the newest is the one that may go on; with other settings another
one is begun, and only if somebody says so, because the one that was ended would not go on any more.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from floodmark.errors import LabError, RunError
from floodmark.inputs.labs import STUDY
from floodmark.inputs.parameters import as_yaml
from floodmark.model.lab import LabRecord
from floodmark.model.stored import save
from floodmark.paths import ROOT, relative
from floodmark.runner.lab import go_on_with, plan_lab, write_lab
from floodmark.runner.plan import RUN_OPTIONS
from floodmark.runs.folders import RESULTS, LabFolder, find_lab_folder, labs_in
from floodmark.values import ParameterValues, Variables

# 20261130T194500Z-lab-study, or with -2 behind it where two began in the same second.
EXECUTION = re.compile(rf"-lab-{STUDY}(-\d+)?$")
# ansible.cfg names it too.
DEFAULT_INVENTORY = Path("inventory/testbed.yml")
# Of a run's options this one decides what is measured.
HOW_ONLY = RUN_OPTIONS - {"point"}


def begin_or_go_on(inventory: Path, extra: Variables, *, new: bool = False, results: Path = RESULTS) -> LabFolder:
    """Return the execution of the study that is to be made: the newest if it was ended too early, or another one.

    Args:
        inventory: where the hosts are described.
        extra: what is given with `-e`: parameters, and options of a run.
        new: begin another one in any case.
        results: where runs are kept.

    Raises:
        FloodmarkError: something is not as it must be, or the one that was ended has other settings; nothing was
            written then.
    """
    wanted = plan_lab(STUDY, inventory, extra)
    ended = None if new else newest_unfinished(results)
    if ended is None:
        return write_lab(wanted, results)
    record = ended.read()
    if other := _difference(record, wanted):
        made = sum(one.run_id is not None and ended.run(one.run_id).is_finished for one in record.points)
        if not made:
            return write_lab(wanted, results)
        raise LabError(
            f"{ended.path.name} was ended after {made} of {len(record.points)} points, with {other}, or begin another "
            f"one by `{command_of(wanted, new=True)}`; what was made is kept."
        )
    if (record.given, record.secrets) != (wanted.given, wanted.secrets):
        save(ended.file, record.model_copy(update={"given": wanted.given, "secrets": wanted.secrets}))
    return ended


def go_on_with_study(name: str, extra: Variables, results: Path = RESULTS) -> LabFolder:
    """Return an execution of the study that is named, to go on or to be judged anew.

    Args:
        name: of its folder, or a path.
        extra: what is given with `-e`: secrets and options of a run, but no parameters.
        results: where runs are kept.

    Raises:
        FloodmarkError: there is none, it is of another lab, or something else is given.
    """
    lab = find_lab_folder(name, results).read().lab
    if lab != STUDY:
        raise LabError(f"{name} is an execution of lab {lab}: `floodmark lab {name}` goes on with it.")
    return go_on_with(name, extra, results)


def newest_unfinished(results: Path = RESULTS) -> LabFolder | None:
    """Return the newest execution of the study, if it was ended before it had come to its end.

    Args:
        results: where runs are kept.

    Raises:
        RunError: it is damaged.
    """
    if not results.is_dir():
        return None
    mine = [path for path in labs_in(results) if EXECUTION.search(path.name)]
    if not mine:
        return None
    newest = LabFolder(mine[-1])
    try:
        return newest if newest.read().overall is None else None
    except RunError as error:
        raise RunError(f"{error} `floodmark study --new` begins another one.") from None


def _difference(record: LabRecord, wanted: LabRecord) -> str:
    """Say what an execution was begun with that is not wanted now, and how it goes on; empty if nothing."""
    going_on = f"go on with it by `{command_of(record)}`"
    if record.inventory != wanted.inventory:
        return f"the inventory {relative(Path(record.inventory))}: {going_on}"
    was, is_ = (
        {name: as_yaml(value) for name, value in one.given.items() if name not in HOW_ONLY} for one in (record, wanted)
    )
    if was != is_:
        given = " ".join(f"-e {name}={value}" for name, value in was.items()) or "nothing given by -e"
        return f"{given}: {going_on}"
    if record.inventory_parameters != wanted.inventory_parameters:
        return "other parameters of its inventory: give that back to it to go on"
    if record.parameters != wanted.parameters or _points(record) != _points(wanted):
        return "another labs/study.yml: take that back to go on"
    return ""


def _points(record: LabRecord) -> list[tuple[str, int | None, ParameterValues]]:
    return [(one.name, one.case, one.varied) for one in record.points]


def command_of(record: LabRecord, *, new: bool = False) -> str:
    """Return the command that makes an execution, or what is missing of it.

    Args:
        record: of the execution.
        new: the one that begins another one.
    """
    inventory = Path(record.inventory)
    words = ["floodmark", STUDY, *(["--new"] if new else [])]
    if inventory != ROOT / DEFAULT_INVENTORY:
        words += ["-i", relative(inventory)]
    for name, value in record.given.items():
        words += ["-e", f"{name}={as_yaml(value)}"]
    return shlex.join(words)
