"""Makes the runs of a lab, and judges them together.

    results/<time>-lab-<name>/lab.json       the points with their runs; in the end the verdict on all of them
    results/<time>-lab-<name>/logs/N.txt     what Ansible said of point N

Each point is an ordinary run in a folder of its own. Its name is on the disk as soon as the run is planned, so a lab
that was ended goes on where it was.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from floodmark.errors import FloodmarkError, LabError, RunError
from floodmark.inputs.cases import Case, find_case, load_cases
from floodmark.inputs.given import marked_by, secrets_of, without_secrets
from floodmark.inputs.inventory import check_caps, clock_of_a_run, hosts_of_a_run, inventory_parameters
from floodmark.inputs.labs import KEY_FIGURES, Lab, Point, create_points, find_lab, refuse_other_case
from floodmark.inputs.parameters import Parameters, given_parameters, resolve_parameters
from floodmark.model.lab import LabPoint, LabRecord, Overall, PointRow
from floodmark.model.stored import save
from floodmark.model.verdict import Verdict
from floodmark.paths import ROOT, relative
from floodmark.runner.case_player import Play, Stop, need_setpriv
from floodmark.runner.plan import RUN_OPTIONS, check_names, control_node, measured_in_host_time
from floodmark.runner.suite import list_inventory
from floodmark.runs.folders import RESULTS, LabFolder, RunFolder, find_lab_folder, new_folder
from floodmark.runs.journal import read_finished
from floodmark.runs.lock import only_process
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.suite import ASSUMED_OVERHEAD_S, Bar
from floodmark.study.sentences import asked_of_points, claims_of
from floodmark.values import Variables
from floodmark.verdict.judge import judge_claim, judge_expectations, judge_run

NOTHING: Variables = MappingProxyType({})


def go_on_with(name: str, extra: Variables, results: Path = RESULTS) -> LabFolder:
    """Return an execution of a lab that is to go on, with other options for the runs to come.

    Args:
        name: of its folder, or a path.
        extra: what is given with `-e`: secrets that it was begun with, and options of a run, but no parameters, which
            would make it another lab.
        results: where runs are kept.

    Raises:
        FloodmarkError: there is none, something else is given, or a secret is missing.
    """
    folder = find_lab_folder(name, results)
    record = folder.read()
    given = without_secrets(extra, record.secrets)
    other = sorted(given.keys() - RUN_OPTIONS)
    if other:
        raise LabError(f"-e: {', '.join(other)} is fixed for {folder.path.name}, which has been begun: leave it out.")
    left = any(not _is_complete(folder, one.run_id) for one in record.points)
    if left and (missing := sorted(set(record.secrets) - extra.keys())):
        raise LabError(
            f"{folder.path.name} was begun with -e {', -e '.join(missing)}, which is not written down: give it again."
        )
    if given:
        save(folder.file, record.model_copy(update={"given": {**record.given, **given}}))
    return folder


# --- before any host is touched -------------------------------------------------------------------


def begin_lab(name: object, inventory: Path, extra: Variables, results: Path = RESULTS) -> LabFolder:
    """Check a lab with all its points, and create the folder of an execution.

    Args:
        name: of the lab.
        inventory: where the hosts are described.
        extra: what else is given with `-e`: parameters, and options of a run.
        results: where runs are kept.

    Raises:
        FloodmarkError: something is not as it must be; nothing was written then.
    """
    return write_lab(plan_lab(name, inventory, extra), results)


def write_lab(record: LabRecord, results: Path = RESULTS) -> LabFolder:
    """Create the folder of an execution that was planned.

    Args:
        record: its plan.
        results: where runs are kept.

    Raises:
        RunError: it cannot be written there.
    """
    folder = LabFolder(new_folder(f"lab-{record.lab}", results))
    save(folder.file, record)
    return folder


def plan_lab(name: object, inventory: Path, extra: Variables) -> LabRecord:
    """Check a lab with all its points, and return what an execution of it is to be.

    Args:
        name: of the lab.
        inventory: where the hosts are described.
        extra: what else is given with `-e`: parameters, and options of a run.

    Raises:
        FloodmarkError: something is not as it must be.
    """
    need_setpriv()
    lab = find_lab(name)
    refuse_other_case(extra, lab)
    if not inventory.exists():
        raise LabError(f"-i: inventory {inventory} does not exist: inventory/ has those of the testbed.")
    listed = list_inventory(inventory)
    marked = marked_by(listed.variables)
    check_names(extra, RUN_OPTIONS, marked)
    given = {one: value for one, value in without_secrets(extra, marked).items() if one not in ("case", "lab")}
    points = lab.points(given)
    variables, hosts = listed.variables, hosts_of_a_run(listed.groups)
    if clock_of_a_run(hosts, listed.host_variables) == "virtual":
        raise LabError(measured_in_host_time(lab))
    cases, phases_s = load_cases(), []
    for point in points:
        parameters = _parameters(lab, point, cases, given, variables)
        check_caps(parameters, variables)
        phases_s.append(parameters.baseline_s + parameters.flood_likely_s + parameters.drain_s)
    return LabRecord(
        lab=lab.name,
        question=lab.file.question,
        case=lab.file.case,
        inventory=str(inventory.resolve()),
        inventory_parameters=inventory_parameters(variables, lab),
        parameters=lab.file.parameters,
        given=given,
        secrets=sorted(secrets_of(extra, marked)),
        control_node=control_node(),
        points=[
            LabPoint(point=one.name, case=one.case, varied=one.varied, takes_s=takes_s * len(hosts.proxies))
            for one, takes_s in zip(points, phases_s, strict=True)
        ],
    )


def _parameters(lab: Lab, point: Point, cases: dict[int, Case], given: Variables, variables: Variables) -> Parameters:
    layers = lab.layers(point, find_case(point.case, cases), inventory_parameters(variables, lab))
    return resolve_parameters(*layers, given_parameters(given), origin="-e")


# --- the runs -------------------------------------------------------------------------------------


def run_points(console: Console, folder: LabFolder, how_to_go_on: str = "", given: Variables = NOTHING) -> None:
    """Make the run of each point that has none yet.

    Args:
        console: where it is shown how far it is.
        folder: of the execution.
        how_to_go_on: the command that goes on when it was ended; `floodmark lab` with its folder otherwise.
        given: what is given with `-e` now. Each run needs the secrets among it, and nobody has written them down.

    Raises:
        FloodmarkError: a run ended without a verdict, or another process makes them.
        Interrupted: a signal came.
    """
    with only_process(folder.path, f"lab {folder.path.name}", LabError):
        record = folder.read()
        points = record.points
        secrets = secrets_of(given, record.secrets)
        left = [number for number, one in enumerate(points) if not _is_complete(folder, one.run_id)]
        _refuse_changed(folder, record, left)
        stop = Stop()
        beside_s: list[float] = []
        with stop.listen(), Bar(console, len(points), done=len(points) - len(left)) as bar:
            for index, number in enumerate(left):
                point = points[number]
                # What a run takes beside its phases, those that have been timed say best.
                overhead_s = statistics.median(beside_s) if beside_s else ASSUMED_OVERHEAD_S["once"]
                bar.begin(point, [max(1.0, points[one].takes_s + overhead_s) for one in left[index:]])
                begun = time.monotonic()
                how = how_to_go_on or f"floodmark lab {folder.path.name}"
                run = _make_run(folder, number, secrets, bar, stop, how)
                took_s = time.monotonic() - begun
                beside_s.append(took_s - point.takes_s)
                bar.end(point, read_finished(run, took_s))


def _refuse_changed(folder: LabFolder, record: LabRecord, left: Sequence[int]) -> None:
    """Refuse to make points that the lab's file no longer has, or has otherwise.

    Raises:
        LabError: there is one among those that are left.
    """
    lab = find_lab(record.lab)
    known = {one.name: one for one in lab.points(record.given)}
    if left and record.parameters not in ({}, lab.file.parameters):
        raise LabError(
            f"labs/{record.lab}.yml has changed since {folder.path.name} was begun, and sets other parameters for all "
            "points: begin the lab anew, or take the file back. What was made is kept."
        )
    for one in (record.points[number] for number in left):
        case = record.case if one.case is None else one.case
        if one.name not in known or (case, one.varied) != (known[one.name].case, known[one.name].varied):
            raise LabError(
                f"labs/{record.lab}.yml has changed since {folder.path.name} was begun, and its point '{one.name}' is "
                "no longer there, or another one: begin the lab anew, or take the file back. What was made is kept."
            )


def _is_complete(folder: LabFolder, run_id: str | None) -> bool:
    return run_id is not None and folder.run(run_id).is_finished


def _make_run(folder: LabFolder, number: int, secrets: Variables, bar: Bar, stop: Stop, how_to_go_on: str) -> RunFolder:
    record = folder.read()
    point = record.points[number]

    def note(run: RunFolder) -> None:
        points = list(record.points)
        points[number] = point.model_copy(update={"run_id": run.run_id})
        save(folder.file, record.model_copy(update={"points": points}))

    log = folder.path / "logs" / f"{number + 1}.txt"
    run = None
    play = Play(note, bar.step, bar.draw, stop)
    if stop.wanted_at is None:
        extra = {**record.given, **secrets, "lab": record.lab, "point": point.name}
        run = play.make(ROOT, Path(record.inventory), [], extra, folder.path / "ansible-runner", log)
    if stop.wanted_at is not None:
        raise stop.end(f"interrupted after {bar.done} of {bar.total} points: go on with: {how_to_go_on}")
    if run is None:
        raise FloodmarkError(
            f"the point '{point.name}' ended without a verdict: {play.why or 'Ansible did not say why'}. What it "
            f"said is in {relative(log)}; go on with: {how_to_go_on}"
        )
    return run


# --- the verdict on all of them -------------------------------------------------------------------


def judge_lab(folder: LabFolder, *, again: bool = False) -> LabRecord:
    """Judge all points of a lab together, and write it down.

    Args:
        folder: of the execution; all its points have runs.
        again: judge each run again before.

    Raises:
        FloodmarkError: a run is missing, or the lab is no longer what it was.
    """
    record = folder.read()
    lab = find_lab(record.lab)
    rows: list[PointRow] = []
    for one in record.points:
        if one.run_id is None or not _is_complete(folder, one.run_id):
            raise RunError(
                f"the point '{one.name}' of {folder.path.name} has no run yet: "
                f"'floodmark lab {folder.path.name}' makes it."
            )
        run = folder.run(one.run_id)
        if again:
            judge_run(run)
        rows += (_row(one, record, verdict) for verdict in read_verdicts(run))
    hosts = list(dict.fromkeys(row.host for row in rows))
    overall = [_judge_host(lab, [row for row in rows if row.host == host]) for host in hosts]
    judged = record.model_copy(
        update={
            "table": rows,
            "overall": overall,
            "valid": all(row.valid for row in rows),
            "passed": all(row.passed for row in rows)
            and all(one.holds for host in overall for one in host.expectations),
        }
    )
    save(folder.file, judged)
    return judged


def _row(point: LabPoint, record: LabRecord, verdict: Verdict) -> PointRow:
    return PointRow(
        point=point.name,
        case_number=record.case if point.case is None else point.case,
        host=verdict.host,
        kernel=verdict.kernel,
        run_id=verdict.run_id,
        valid=verdict.valid,
        passed=verdict.passed,
        figure_n=verdict.figure_n,
        **verdict.params,
        **{name: getattr(verdict.seen, name, None) for name in KEY_FIGURES},
        **verdict.figures,
    )


def _judge_host(lab: Lab, rows: Sequence[PointRow]) -> Overall:
    """Judge what one host has shown, by all valid runs."""
    valid = create_points(lab, [row.model_dump() for row in rows if row.valid])
    # There is no transport that all points have: what is said is said of the table.
    return Overall(
        host=rows[0].host,
        kernel=next((row.kernel for row in rows if row.kernel), None),
        expectations=judge_expectations(valid, lab.file.overall.expect, "unix"),
        claims=[judge_claim(valid, one, "unix") for one in claims_of(asked_of_points(lab.name))],
    )
