"""The verdict on a run: was it valid, did our model hold, and what becomes of the study's sentences.

`floodmark.verdict.views` says what the SQL of a case sees, `floodmark.verdict.rules` what a run is held against.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator

import duckdb
from pydantic import ValidationError

from collectors.fields import GENERATOR_MACHINE, MACHINE, TABLES
from floodmark.disk import make_folder, sync_all
from floodmark.errors import CaseError, RunError
from floodmark.inputs.cases import Case, Claim, Expectation, Observation
from floodmark.inputs.sql import Locked, is_so, lock, look, observe, other_statement, predicted, rows_behind
from floodmark.model.check import Check
from floodmark.model.metrics import COMPARED, PHASES, described
from floodmark.model.run import Plan, RunRecord
from floodmark.model.stored import save
from floodmark.model.verdict import ClaimVerdict, Phase, Prediction, Unstated, Verdict
from floodmark.runs.folders import HostFolder, RunFolder, point_latest_at
from floodmark.study.sentences import with_questions
from floodmark.verdict import checks
from floodmark.verdict.contention import AT_LEAST_NS, of_a_machine, read_use
from floodmark.verdict.coverage import Coverage, coverage_of, windows_of
from floodmark.verdict.ingest import Ingested, ingest
from floodmark.verdict.metrics import key_figures, without_holes
from floodmark.verdict.rules import RESULTS_READABLE
from floodmark.verdict.views import check_sql, compute_moments, create_views, tables_behind
from floodmark.verdict.virtual import judge_virtual_host

# --- the verdict on one host --------------------------------------------------------------------


def judge_host(run: RunFolder, folder: HostFolder, case: Case) -> Verdict:
    """Ingest one host's results, judge them, and write its verdict.json.

    Args:
        run: the run.
        folder: the host's results.
        case: as the plan has it, with the parameters of this run.

    Raises:
        RunError: the run failed on this host, or what was written is missing or damaged.
    """
    folder.refuse_failed()
    parameters = case.parameters
    tables = ingest(run, folder, parameters.rates_hz)
    database = lock(tables.database)
    listeners, generators, before = tables.host.listeners, tables.generators, tables.host.somaxconn_before
    create_views(database, parameters, listeners, generators, before, clock_error_ns=tables.clock.error_ns)
    compute_moments(database)
    faults = judge_expectations(database, case.fault, parameters.transport)
    unstated = _unstated(database, case.expect, parameters.transport)
    phases = list(_phases(tables))
    coverage = _coverage(tables, case)
    rested = tables_behind(database, [*case.fault, *case.expect, *case.claims, *case.figures]) | _behind_comparisons()
    stated_figures = [one for one in case.figures if parameters.transport in one.transport]
    metrics, missing = without_holes(key_figures(tables, phases, parameters), coverage)
    verdict = Verdict(
        run_id=run.run_id,
        host=folder.name,
        kernel=tables.host.kernel.release,
        checks=[
            *checks.of_the_end(run.ended_by),
            *checks.of_the_case(faults, unstated),
            *checks.of_completeness(tables, phases, coverage, parameters, rested, checks.units_of(case)),
            *checks.of_the_clocks(tables),
            *_of_the_machines(tables, case),
            *checks.of_the_flood(tables, metrics, run.run_id, parameters),
            *checks.of_nginx(tables, metrics, parameters),
            *checks.of_the_agent(tables, metrics, parameters),
        ],
        params=parameters.model_dump(),
        faults=faults,
        expectations=judge_expectations(database, case.expect, parameters.transport),
        unstated=unstated,
        claims=[judge_claim(database, claim, parameters.transport) for claim in case.claims],
        figures={one.name: look(database, one) if one in stated_figures else None for one in case.figures},
        figure_n={one.name: rows_behind(database, one) for one in stated_figures},
        phases=phases,
        metrics=metrics,
        missing=missing,
    )
    save(folder.verdict, verdict)
    return verdict


def judge_expectations(database: Locked, expectations: Collection[Expectation], transport: str) -> list[Prediction]:
    """Return what came of each expectation that is stated for this run."""
    return [
        _prediction(database, one)
        for one in expectations
        if transport in one.transport and is_so(database, one.applies)
    ]


def _prediction(database: Locked, observation: Observation) -> Prediction:
    value, holds = observe(database, observation)
    return Prediction(
        name=observation.name,
        value=value,
        holds=bool(holds),  # a prediction that could not be seen has not held
        condition=observation.holds,
        predicted=predicted(database, observation),
    )


def _unstated(database: Locked, expectations: Collection[Expectation], transport: str) -> list[Unstated]:
    """Return the expectations that our model does not state for these parameters, with their condition."""
    return [
        Unstated(name=one.name, applies=one.applies)
        for one in expectations
        if transport in one.transport and not is_so(database, one.applies)
    ]


def judge_claim(database: Locked, claim: Claim, transport: str) -> ClaimVerdict:
    """Return what a run answers to a question about the study."""
    stated = transport in claim.transport and is_so(database, claim.applies)
    value, holds = observe(database, claim) if stated else (None, None)
    return ClaimVerdict(
        name=claim.name,
        role=claim.role,
        limit=claim.limit,
        study=claim.study,
        measured=claim.measured,
        verdict="not observed" if holds is None else "confirmed" if holds else "refuted",
        value=value,
        condition=claim.holds,
        digest=claim.digest,
    )


# --- what the checks are given ------------------------------------------------------------------


def _phases(tables: Ingested) -> Iterator[Phase]:
    """Yield the phases with their lengths: from the first sample to the last."""
    row = tables.database.execute("SELECT min(t_ns), max(t_ns) FROM accept_queue").fetchone()
    start_ns, end_ns = tables.phases.flood_start_ns, tables.phases.flood_end_ns
    if row is None or row[0] is None or start_ns is None or end_ns is None:
        return
    edges = [row[0], start_ns, end_ns, row[1]]
    for name, start, end in zip(PHASES, edges[:-1], edges[1:], strict=True):
        yield Phase(name=name, duration_s=round((end - start) / 1e9, 3), start_ns=start, end_ns=end)


def _coverage(tables: Ingested, case: Case) -> list[Coverage]:
    """Return how well each source covers each phase that was asked for; nothing where there was no flood."""
    start_ns, end_ns = tables.phases.flood_start_ns, tables.phases.flood_end_ns
    if start_ns is None or end_ns is None:
        return []
    windows = windows_of(start_ns, end_ns, case.parameters.baseline_s, case.parameters.drain_s)
    return coverage_of(tables.database, checks.covered_sources(case.parameters), windows)


def _behind_comparisons() -> set[str]:
    """Return the tables that the metrics of comparisons rest on."""
    return {table for name, rests in described() if name in COMPARED for table in rests.tables} & TABLES.keys()


def _of_the_machines(tables: Ingested, case: Case) -> Iterator[Check]:
    """Yield whether the measured host and the machines of the load generators were left to the run."""
    start_ns, end_ns = tables.phases.flood_start_ns, tables.phases.flood_end_ns
    if start_ns is not None and end_ns is not None and case.parameters.machine_hz:
        kernel = tables.host.clocks.kernel_boot_id
        use = read_use(tables.database, MACHINE.name, start_ns, end_ns)
        yield from of_a_machine(use, "the host", _cpu_of_generators_s(tables, kernel))
    kernels = dict.fromkeys(one.kernel_boot_id for one in tables.generators)
    for kernel in kernels.keys() - {None, tables.host.clocks.kernel_boot_id}:
        # All processes on one machine read the same counters.
        one = next(each for each in tables.generators if each.kernel_boot_id == kernel)
        if one.first_start_ns is None or one.last_end_ns is None or one.last_end_ns - one.first_start_ns < AT_LEAST_NS:
            continue  # a burst that is over at once says nothing of shares of a processor
        readings = f"(SELECT * FROM {GENERATOR_MACHINE.name} WHERE generator = {one.generator})"
        use = read_use(tables.database, readings, one.first_start_ns, one.last_end_ns)
        own_s = _cpu_of_generators_s(tables, kernel)
        yield from of_a_machine(use, f"the machine of process {one.generator}", own_s, is_measured=False)


def _cpu_of_generators_s(tables: Ingested, kernel_boot_id: str | None) -> float:
    """Return the processor time of the load generators that ran on one kernel (s)."""
    return sum(one.cpu_s for one in tables.generators if kernel_boot_id and one.kernel_boot_id == kernel_boot_id)


# --- the verdict on a run -----------------------------------------------------------------------


def judge_run(run: RunFolder) -> RunRecord:
    """Judge every host of a run and write run.json, last of all.

    Raises:
        RunError: the plan is missing or damaged, or of another version, or the folder cannot be written, or what was
            fetched cannot be unpacked; then the verdict was not changed.
    """
    try:
        return _judge(run)
    except OSError as error:
        raise RunError(
            f"{error.filename or run.path} cannot be written: {error.strerror}. Free some space there (the environment "
            "variable TMPDIR names another folder for what is unpacked), and judge the run again."
        ) from None


def _judge(run: RunFolder) -> RunRecord:
    if not os.access(run.path, os.W_OK):
        raise RunError(
            f"{run.path} cannot be written, where the verdict belongs: make it writable, or copy it and judge the copy."
        )
    is_new = run.plan.exists()
    plan = run.read_plan() if is_new else run.read_run()
    case = _case_of(run, plan)
    _refuse_other_statements(run, case)
    judge = judge_virtual_host if plan.clock == "virtual" else judge_host
    try:
        verdicts = [_judge_or_explain(judge, run, run.host(name), case) for name in plan.hosts.proxies]
    except duckdb.PermissionException as error:
        raise RunError(
            f"run {run.run_id} is not judged: the SQL of its case sees the tables of this run, and this asks for more: "
            f"{str(error).splitlines()[0].rstrip('.')}. Do not trust where the folder comes from."
        ) from None
    except duckdb.Error:
        # To try the SQL before would take a tenth of the time that a verdict takes.
        _refuse_sql_of_another_version(run, plan, case)
        raise
    record = RunRecord.model_validate(
        {
            **plan.model_dump(),
            "phases": {one.host: one.phases for one in verdicts},
            "valid": all(one.valid for one in verdicts),
            "passed": all(one.passed for one in verdicts),
        }
    )
    # A run that is complete is so after a power cut too, with what others wrote into its folder.
    sync_all(run.path)
    save(run.record, record)
    if is_new:
        run.plan.unlink()
        point_latest_at(run)
    return record


def _case_of(run: RunFolder, plan: Plan) -> Case:
    """Return the case as the plan has it, with what is asked about the study now.

    Raises:
        RunError: this version does not know such a case.
    """
    try:
        case = Case.model_validate({**plan.case.content(), "claims": [], "parameters": plan.parameters})
    except ValidationError as error:
        differing = ", ".join(dict.fromkeys(str(one["loc"][-1]) for one in error.errors()))
        raise _of_another_version(run, plan, f"whose runs have another {differing}") from None
    return with_questions(case, plan.lab, plan.point)


def _refuse_other_statements(run: RunFolder, case: Case) -> None:
    """Refuse a run whose case would do more than ask: its folder may come from anybody.

    Raises:
        RunError: it would.
    """
    for one in (*case.fault, *case.expect, *case.claims, *case.figures):
        if other := other_statement(one):
            raise RunError(
                f"run {run.run_id} is not judged: '{one.name}' of its case is to be one SELECT, and it is more: "
                f"{other!r}. Nothing of it was executed. Do not trust where the folder comes from."
            )


def _refuse_sql_of_another_version(run: RunFolder, plan: Plan, case: Case) -> None:
    try:
        check_sql(case)
    except CaseError as error:
        asks = str(error).rstrip(".")
        raise _of_another_version(run, plan, f"and this one cannot ask what it asks: {asks}") from None


def _of_another_version(run: RunFolder, plan: Plan, differing: str) -> RunError:
    made_by = plan.control_node
    return RunError(
        f"run {run.run_id} was made by another version of Floodmark ({made_by.floodmark or 'unknown'}, commit "
        f"{made_by.git_commit or 'unknown'}), {differing}. That version can judge it again; its verdict stands as it "
        "is."
    )


def _judge_or_explain(
    judge: Callable[[RunFolder, HostFolder, Case], Verdict], run: RunFolder, folder: HostFolder, case: Case
) -> Verdict:
    """Judge one host; one that failed has a verdict without figures, and the others keep theirs."""
    try:
        return judge(run, folder, case)
    except RunError as error:
        verdict = Verdict(
            run_id=run.run_id,
            host=folder.name,
            checks=[
                *checks.of_the_end(run.ended_by),
                RESULTS_READABLE.check(False, ok=False, subject=folder.name, why=str(error)),
            ],
            params=case.parameters.model_dump(),
        )
        make_folder(folder.path, exist_ok=True)
        save(folder.verdict, verdict)
        return verdict
