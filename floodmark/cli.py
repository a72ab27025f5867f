"""The command line of the control node."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from floodmark import __version__
from floodmark.errors import FloodmarkError, Interrupted
from floodmark.show.terminal import Console
from floodmark.text import visible

if TYPE_CHECKING:
    from floodmark.compare.model import Comparison, Question


HELP_OF_GIVEN = "A parameter of the runs; @FILE for a file of them; may be repeated."


class Commands(click.Group):
    """A group whose commands end with one sentence when the user's input is wrong, or a signal has come."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        A FloodmarkError, or a file that cannot be used, becomes its sentence and status 2; a signal its own status.
        """
        try:
            return super().invoke(ctx)
        except Interrupted as sentence:
            click.echo(f"floodmark: {sentence}", err=True)
            sys.exit(sentence.status)
        except FloodmarkError as error:
            click.echo(visible(f"floodmark: {error}"), err=True)
            sys.exit(2)
        except OSError as error:
            if not error.filename:
                raise
            click.echo(f"floodmark: {error.filename} cannot be used: {error.strerror}.", err=True)
            sys.exit(2)


def asks_passwords(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that starts Ansible ask for the passwords that Ansible needs, with Ansible's own options."""

    @click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password for root on the hosts.")
    @click.option("-J", "--ask-vault-pass", is_flag=True, help="Ask for the password of the inventory's vaults.")
    @wraps(command)
    def asking(*arguments: Any, ask_become_pass: bool, ask_vault_pass: bool, **options: Any) -> None:
        from floodmark.runner.passwords import ask, handed_on

        become, vaults = ask(become=ask_become_pass, vault=ask_vault_pass)
        with handed_on(become, vaults):
            command(*arguments, **options)

    return asking


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="floodmark")
def main() -> None:
    """What an nginx reverse proxy does when the server behind it misbehaves.

    Runs are made by `make case CASE=3` or `ansible-playbook run-case.yml -e case=3`; this command
    lists what there is to run and shows what came of it.
    """


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cases(as_json: bool) -> None:
    """List the cases, and the parameters of a run with their ranges.

    \b
    Example:  floodmark cases
    """
    from floodmark.inputs.cases import load_cases
    from floodmark.show.run import print_cases

    loaded = load_cases()
    if as_json:
        click.echo(json.dumps([case.model_dump(mode="json", by_alias=True) for case in loaded.values()], indent=2))
    else:
        print_cases(Console(), loaded)


@main.command()
@click.argument("run", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with one verdict for each host.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw what the terminal shows into a file.")
def show(run: str, as_json: bool, svg: Path | None) -> None:
    """Show what a run says: verdict, expectations, claims, key figures.

    RUN is a name below results/, a path, or nothing for the newest complete run.

    \b
    Example:  floodmark show
              floodmark show 20261123T031500Z-case2-unix --json
              floodmark show --svg result.svg
    """
    from floodmark.runs.folders import find_run
    from floodmark.runs.verdicts import read_verdicts
    from floodmark.show.run import draw_run, print_run

    if as_json and svg:
        raise click.UsageError("--json and --svg are two shapes: give one of them.")
    folder = find_run(run)
    if as_json:
        verdicts = [one.model_dump(mode="json") for one in read_verdicts(folder)]
        click.echo(json.dumps(verdicts, indent=2, ensure_ascii=False))
    elif svg:
        with svg.open("w", encoding="utf-8") as file:
            file.write(draw_run(folder))
    else:
        print_run(Console(), folder)


@main.command()
@click.argument("run", default="latest")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where; report.html of the run otherwise."
)
def report(run: str, output: Path | None) -> None:
    """Write the report of a run or of a lab anew: one HTML file that needs nothing else.

    What is missing of the run is said in it, and the rest is shown. RUN may be an execution of a lab.

    \b
    Example:  floodmark report
              floodmark report 20261123T031500Z-case2-unix -o /tmp/report.html
    """
    from floodmark.report.lab import write_lab_report
    from floodmark.report.run import write_report
    from floodmark.runs.folders import find_lab_folder, find_run, is_lab_folder

    if is_lab_folder(run):
        click.echo(write_lab_report(find_lab_folder(run).path, output))
    else:
        click.echo(write_report(find_run(run), output))


@main.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where; results/index.html otherwise."
)
def index(output: Path | None) -> None:
    """Write the page of all runs anew, as every run does at its end.

    \b
    Example:  floodmark index
    """
    from floodmark.report.index import write_index
    from floodmark.runs.folders import RESULTS

    click.echo(write_index(RESULTS, output))


@main.command()
@click.argument("run", default="latest")
@click.option("--quiet", is_flag=True, help="Do not print the verdict.")
def judge(run: str, quiet: bool) -> None:
    """Judge a run anew from what its hosts wrote, and write its report and the page of all runs.

    The exit status is 0 when the run is valid and every expectation holds, otherwise 1.

    \b
    Example:  floodmark judge results/20261123T031500Z-case2-unix
    """
    from floodmark.report.index import write_index
    from floodmark.report.run import write_report
    from floodmark.runs.folders import find_run
    from floodmark.show.run import print_run
    from floodmark.verdict.judge import judge_run

    folder = find_run(run)
    record = judge_run(folder)
    write_report(folder)
    write_index(folder.path.parent)
    if not quiet:
        print_run(Console(), folder)
    sys.exit(0 if record.passed else 1)


@main.command()
@click.argument("runs", nargs=-1)
@click.option("--suite", "suite_file", type=click.Path(path_type=Path), help="Compare the finished runs of a suite.")
@click.option("--by", "axis", required=True, help="What to compare by: kernel, host, nginx, or any parameter.")
@click.option("--baseline", help="The value to compare the others with; the first one otherwise.")
@click.option("--allow", multiple=True, help="A field, or a group of them, that may differ besides.")
@click.option("--metric", "metrics", multiple=True, help="Compare this metric; may be repeated; all of them otherwise.")
@click.option(
    "--margin",
    "margin_percent",
    type=click.FloatRange(0, 100, min_open=True),
    default=5,
    show_default=True,
    help="Shifts up to so many per cent of the baseline do not matter.",
)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["terminal", "json", "csv", "markdown", "html", "go"]),
    default="terminal",
    show_default=True,
    help="What to print; html is a page of its own, go is for benchstat.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--fail-on", metavar="WORDS", help="Exit with status 1 if the comparison says one of these: different,slower."
)
def compare(
    runs: tuple[str, ...],
    suite_file: Path | None,
    axis: str,
    baseline: str | None,
    allow: tuple[str, ...],
    metrics: tuple[str, ...],
    margin_percent: float,
    shape: str,
    as_json: bool,
    fail_on: str | None,
) -> None:
    """Compare runs that differ in one thing: behaviour is the same or not, metrics are faster, slower, equivalent.

    Each of RUNS is a name below results/ or a path; NAME:HOST is one host of a run. With --suite each combination of
    the suite is compared by itself, and p is corrected for all; --by half compares each host with itself (A/A).
    docs/comparing.md says what the words of the verdict mean.

    The exit status is 1 if the comparison says a word that --fail-on names (different, slower, faster, more, less),
    otherwise 0.

    \b
    Example:  floodmark compare latest --by kernel --allow kernel_config
              floodmark compare RUN... --by somaxconn --baseline 8 --metric request_median_s
              floodmark compare RUN... --by kernel --format html > kernels.html
              floodmark compare RUN... --by kernel --format go | benchstat -col kernel /dev/stdin
              floodmark compare --suite suites/kernels.yml --by half
              floodmark compare RUN... --by kernel --fail-on different,slower
    """
    from floodmark.compare.comparison import compare_runs
    from floodmark.compare.failing import failures, read_words
    from floodmark.compare.model import Question
    from floodmark.errors import CompareError

    if bool(runs) == bool(suite_file):
        raise CompareError("name either runs or a suite: RUNS... or --suite FILE.")
    if isnan(margin_percent):
        raise CompareError("--margin: nan is no number of per cent: give one above 0 and up to 100.")
    question = Question(axis, baseline, allow, metrics, margin_percent / 100)
    shape = "json" if as_json else shape
    words = read_words(fail_on) if fail_on is not None else ()
    if suite_file:
        comparisons = _compare_suite(suite_file, question, shape)
    else:
        comparison = compare_runs(runs, question)
        comparisons = {"": comparison}
        _print_comparison(comparison, shape)
    found = list(failures(comparisons, words))
    for line in found:
        click.echo(f"floodmark: {line}", err=True)
    sys.exit(1 if found else 0)


def _print_comparison(comparison: Comparison, shape: str) -> None:
    from floodmark.compare.formats import FORMATS, print_comparison

    if shape == "terminal":
        print_comparison(Console(), comparison)
    elif shape == "html":
        from floodmark.report.comparison import to_html

        click.echo(to_html(comparison), nl=False)
    else:
        click.echo(FORMATS[shape](comparison), nl=False)


def _compare_suite(file: Path, question: Question, shape: str) -> dict[str, Comparison]:
    """Print the comparisons of a suite, and return them."""
    from floodmark.compare.suite import SUITE_FORMATS, compare_suite, print_suite_comparison
    from floodmark.errors import CompareError
    from floodmark.runner.suite import load_suite
    from floodmark.runs.folders import RESULTS
    from floodmark.runs.journal import read_journal

    if shape not in ("terminal", "html", *SUITE_FORMATS):
        raise CompareError(
            f"--format {shape} is for a comparison of runs; a suite has terminal, {', '.join(SUITE_FORMATS)}, html."
        )
    suite = load_suite(file)
    done = compare_suite(suite, read_journal(suite, RESULTS), question)
    if shape == "terminal":
        print_suite_comparison(Console(), done)
    elif shape == "html":
        from floodmark.report.comparison import suite_to_html

        click.echo(suite_to_html(done), nl=False)
    else:
        click.echo(SUITE_FORMATS[shape](done), nl=False)
    return done.groups


@main.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: field -> both values.")
def diff(run_a: str, run_b: str, as_json: bool) -> None:
    """Show all that differs between two runs' hosts and parameters, before anything that was measured.

    A run of several hosts is named with one of them: RUN:HOST.

    \b
    Example:  floodmark diff 20261123T031500Z-case2-unix latest
              floodmark diff latest:linux61 latest:linux612
    """
    from floodmark.compare.diff import differences, print_differences, read_one

    one, other = read_one(run_a), read_one(run_b)
    if as_json:
        click.echo(json.dumps(differences(one, other), indent=2, ensure_ascii=False))
    else:
        print_differences(Console(), one, other)


@main.command()
@click.argument("query", required=False)
@click.option(
    "--format", "shape", type=click.Choice(["terminal", "csv", "json"]), default="terminal", show_default=True,
    help="What to print.",
)  # fmt: skip
def sql(query: str | None, shape: str) -> None:
    """Ask something about all runs, in SQL as DuckDB knows it; without QUERY, list the tables.

    \b
    Example:  floodmark sql "SELECT run, value FROM metrics WHERE name = 'accept_queue_max' ORDER BY run"
              floodmark sql "SELECT kernel, count(*) FROM runs WHERE passed GROUP BY kernel" --format csv
    """
    from floodmark.export.answers import print_answer, print_tables
    from floodmark.export.database import ask
    from floodmark.runs.folders import RESULTS, runs_in

    if query is None:
        print_tables(Console())
    else:
        print_answer(ask(query, runs_in(RESULTS)), shape)


@main.command("csv")
@click.argument("run")
@click.argument("table")
def table_as_csv(run: str, table: str) -> None:
    """Print a table of a run as CSV, all hosts one after the other.

    RUN is a name below results/, a path, or `latest`; results/README.md says what TABLE has in each column.

    \b
    Example:  floodmark csv latest accept_queue > queue.csv
    """
    from floodmark.export.answers import print_answer
    from floodmark.export.database import ask
    from floodmark.export.frames import load

    loaded = load(run)
    print_answer(ask(f"FROM {loaded.need(table)}", [loaded.folder.path]), "csv")


@main.command()
@click.argument("runs", nargs=-1)
def junit(runs: tuple[str, ...]) -> None:
    """Print expectations as JUnit XML, for CI systems: a test for each of them, an error where a run is not valid.

    Each of RUNS is a name below results/ or a path; without any it is the newest one.

    \b
    Example:  floodmark junit > floodmark.xml
    """
    from floodmark.export.junit import junit as to_xml
    from floodmark.runs.folders import find_run

    click.echo(to_xml([find_run(name) for name in runs or ("latest",)]), nl=False)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print the runs in their order and the time they take; run nothing.")
@asks_passwords
def suite(file: Path, dry_run: bool) -> None:
    """Make all runs of a suite; given again, go on where it was ended.

    The exit status is 0 when every run is valid and every expectation holds, otherwise 1; 130 when it was interrupted.

    \b
    Example:  floodmark suite suites/kernels.yml --dry-run
              floodmark suite suites/kernels.yml
    """
    from floodmark.runner.suite import load_suite, run_suite
    from floodmark.runs.folders import RESULTS
    from floodmark.runs.journal import read_journal
    from floodmark.show.suite import print_plan

    loaded = load_suite(file)
    if dry_run:
        print_plan(Console(), loaded, read_journal(loaded, RESULTS))
        return
    good = run_suite(Console(), file, loaded)
    sys.exit(0 if good else 1)


@main.command()
@click.argument("name", required=False)
@click.option(
    "-i", "--inventory", default="inventory/testbed.yml", type=click.Path(path_type=Path), help="Of the hosts."
)
@click.option("-e", "extra", multiple=True, metavar="NAME=VALUE", help=HELP_OF_GIVEN)
@click.option("--quiet", is_flag=True, help="Write how it goes into progress.txt of its folder, and print nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print lab.json in the end.")
@asks_passwords
def lab(name: str | None, inventory: Path, extra: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Make all runs of a lab, and judge them together.

    NAME is a lab; without it the labs are listed. The name of an execution in results/ makes what is missing of that
    one, and judges it anew.

    The exit status is 0 when every run is valid and all expectations hold, otherwise 1; 130 when it was interrupted.

    \b
    Example:  floodmark lab
              floodmark lab single-request -e transport=tcp
              floodmark lab 20261126T191500Z-lab-single-request
    """
    from floodmark.disk import open_log
    from floodmark.inputs.given import read_given
    from floodmark.inputs.labs import STUDY, load_labs
    from floodmark.report.index import write_index
    from floodmark.report.lab import write_lab_report
    from floodmark.report.study import write_study_page
    from floodmark.runner.lab import begin_lab, go_on_with, judge_lab, run_points
    from floodmark.runs.folders import is_lab_folder
    from floodmark.show.lab import print_lab, print_labs

    if name is None:
        print_labs(Console(), load_labs())
        return
    given = read_given(extra)
    folder = go_on_with(name, given) if is_lab_folder(name) else begin_lab(name, inventory, given)
    again = folder.read().overall is not None
    with open_log(folder.path / "progress.txt") as progress:
        run_points(Console(file=progress if quiet else None, stderr=as_json), folder, given=given)
    record = judge_lab(folder, again=again)
    write_lab_report(folder.path)
    if record.lab == STUDY:
        write_study_page(folder)
    write_index(folder.path.parent)
    if as_json:
        click.echo(json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False))
    elif not quiet:
        print_lab(Console(), folder)
    sys.exit(0 if record.passed else 1)


@main.command()
@click.argument("name", required=False)
@click.option(
    "-i", "--inventory", default="inventory/testbed.yml", type=click.Path(path_type=Path), help="Of the hosts."
)
@click.option("-e", "extra", multiple=True, metavar="NAME=VALUE", help=HELP_OF_GIVEN)
@click.option("--new", is_flag=True, help="Begin another execution, although the last one was ended too early.")
@click.option("--quiet", is_flag=True, help="Write how it goes into progress.txt of its folder, and print nothing.")
@asks_passwords
def study(name: str | None, inventory: Path, extra: tuple[str, ...], new: bool, quiet: bool) -> None:
    """Do again what the study did, and say of each of its sentences what comes out.

    The runs are those of labs/study.yml: the author's five cases and four labs as he ran them. If the last execution
    was ended, what is missing of it is made. It ends with a page, study.html in its folder. NAME is an execution in
    results/, whose runs are judged anew, and whose page is written anew.

    The exit status is 0 when every run is valid and all expectations hold, otherwise 1; 130 when it was interrupted.

    \b
    Example:  floodmark study
              floodmark study -i inventory/kernels.yml
              floodmark study -e proxy_read_timeout_s=60 -e proxy_connect_timeout_s=60
    """
    from floodmark.disk import open_log
    from floodmark.inputs.given import read_given
    from floodmark.report.index import write_index
    from floodmark.report.lab import write_lab_report
    from floodmark.report.study import write_study_page
    from floodmark.runner.lab import judge_lab, run_points
    from floodmark.runner.study import begin_or_go_on, command_of, go_on_with_study
    from floodmark.show.study import print_study

    given = read_given(extra)
    if name and new:
        raise click.UsageError("NAME is an execution that is there, and --new begins another: give one of them.")
    folder = go_on_with_study(name, given) if name else begin_or_go_on(inventory, given, new=new)
    again = folder.read().overall is not None
    with open_log(folder.path / "progress.txt") as progress:
        run_points(Console(file=progress if quiet else None), folder, command_of(folder.read()), given)
    record = judge_lab(folder, again=again)
    write_lab_report(folder.path)
    write_study_page(folder)
    write_index(folder.path.parent)
    if not quiet:
        print_study(Console(), folder)
    sys.exit(0 if record.passed else 1)


@main.command()
@click.argument("run", required=False)
def watch(run: str | None) -> None:
    """Look on while a run goes on: the queue, the states, nginx's answers.

    Without RUN it is the newest one that is under way. The run knows nothing of it; Ctrl-C ends the looking alone.

    \b
    Example:  floodmark watch
    """
    from floodmark.runner.watch import find, watch

    found, plan = find(run)
    try:
        watch(Console(), found, plan)
    except KeyboardInterrupt:
        sys.exit(130)
    click.echo(f"The run is over: floodmark show {found.run_id}")


@main.command()
@click.option("--case", "number", required=True, help="Number of the case.")
@click.option(
    "-i", "--inventory", default="inventory/testbed.yml", type=click.Path(path_type=Path), help="Of the hosts."
)
@click.option("--host", help="The proxy host; the first one otherwise.")
@click.option("-e", "extra", multiple=True, metavar="NAME=VALUE", help=HELP_OF_GIVEN)
@click.option("--p99-ms", default=100.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--start", default=50.0, show_default=True, type=click.FloatRange(1), help="First rate (1/s).")
@click.option("--most", default=5000.0, show_default=True, type=click.FloatRange(1), help="Highest rate to try (1/s).")
@click.option(
    "--precision", default=5.0, show_default=True, type=click.FloatRange(0.5, 100), help="Width of the bracket (%)."
)
@click.option(
    "--confirm", default=20, show_default=True, type=click.IntRange(1, 100), help="Probes in a row that have to hold."
)
@asks_passwords
def edge(
    number: str, inventory: Path, host: str | None, extra: tuple[str, ...], p99_ms: float, start: float, most: float,
    precision: float, confirm: int,
) -> None:  # fmt: skip
    """Find the highest rate at which a case holds.

    A rate breaks when a request gets anything but a complete answer with status 200, when one request of a hundred
    takes longer than --p99-ms, when the accept queue is more than half full, or when more than `users` requests would
    be in flight. A rate holds after --confirm probes in a row that did.

    \b
    Example:  floodmark edge --case 1
              floodmark edge --case 1 -e transport=tcp -e users=2000 -e duration_s=20 --p99-ms 20
    """
    from floodmark.inputs.given import marked_by, read_given
    from floodmark.runner.case_player import Stop
    from floodmark.runner.edge import Prober, Search, run_edge
    from floodmark.runner.suite import list_inventory, proxies_of

    console = Console()
    hosts = proxies_of(inventory)
    if host is not None and host not in hosts:
        raise FloodmarkError(f"--host: there is no proxy host '{host}' in {inventory}: it has {', '.join(hosts)}.")
    given = read_given(extra)
    fixed = sorted(given.keys() & {"case", "rate", "load_shape", "arrival_seed"})
    if fixed:
        raise FloodmarkError(f"-e: {', '.join(fixed)} is for the search to choose: leave it out.")
    prober = Prober(console, inventory, host or hosts[0], {"case": number, "users": "1000", **given}, p99_ms, Stop())
    prober.marked = marked_by(list_inventory(inventory).variables)
    run_edge(console, Search(start, most, precision / 100, confirm), prober)


@main.group()
def host() -> None:
    """Look at the hosts of an inventory, and put back what a run has left there.

    \b
    Example:  floodmark host status
    """


def _of_an_inventory(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that asks hosts its options."""
    inventory = click.option(
        "-i", "--inventory", default=Path("inventory/testbed.yml"), show_default=True, type=click.Path(path_type=Path),
        help="An inventory; its proxies and load generators are asked.",
    )  # fmt: skip
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return inventory(as_json(asks_passwords(command)))


@host.command("status")
@_of_an_inventory
def host_status(inventory: Path, as_json: bool) -> None:
    """Say who holds each host, and what deviates from what was before Floodmark's runs. Nothing is changed.

    The exit status is 1 where something deviates that no run looks after, and 2 where a host could not be asked.

    \b
    Example:  floodmark host status
    """
    _ask_hosts(inventory, as_json, restore=False)


@host.command("restore")
@click.option("--force", is_flag=True, help="Also end runs that go on.")
@_of_an_inventory
def host_restore(inventory: Path, as_json: bool, force: bool) -> None:
    """Put back what deviates on each host, whatever version of Floodmark has left it.

    Hosts put themselves back when a run ends in any way; this is for when that has failed. A host that a run holds is
    left alone. The exit status is 1 where a host is not as it was afterwards, and 2 where one could not be asked.

    \b
    Example:  floodmark host restore
    """
    _ask_hosts(inventory, as_json, restore=True, force=force)


def _ask_hosts(inventory: Path, as_json: bool, *, restore: bool, force: bool = False) -> None:
    from floodmark.runner.hosts import ask_hosts
    from floodmark.runner.suite import proxies_of
    from floodmark.show.hosts import print_hosts

    proxies_of(inventory)  # says what is wrong with an inventory
    answers = ask_hosts(inventory, restore=restore, force=force)
    if as_json:
        found = {name: {**one.model_dump(), "as_it_was": one.is_as_it_was} for name, one in answers.statuses.items()}
        failed = {name: {"failure": why} for name, why in answers.failures.items()}
        click.echo(json.dumps({**found, **failed}, indent=2))
    else:
        print_hosts(Console(), answers)
    if answers.failures:
        sys.exit(2)
    if any(not one.is_as_it_was and (restore or not one.is_held) for one in answers.statuses.values()):
        sys.exit(1)


@main.command()
@click.option("--write", is_flag=True, help="Write what was found into study/evidence.csv, and docs/claims.md.")
def claims(write: bool) -> None:
    """Collect from all runs in results/ what they say of the study's sentences.

    A run counts when it is valid and has the parameters of its case or lab, whether our model holds in it or not;
    docs/claims.md is the page that is made of it.

    \b
    Example:  floodmark claims
              floodmark claims --write
    """
    from floodmark.study.evidence import EVIDENCE, collect, evidence_csv, merge, read_evidence
    from floodmark.study.outcome import sentences_of
    from floodmark.study.page import PAGE, claims_page
    from floodmark.study.sentences import check_sentences, load_sentences

    check_sentences(load_sentences().values())
    new = collect()
    found = merge(new, read_evidence())
    outcomes = sentences_of(found)
    counts = Counter(one.verdict for one in outcomes)
    click.echo(f"{len(new)} answers were found, {len(found) - len(new)} of other runs were known.")
    click.echo(f"{len(outcomes)} sentences: {', '.join(f'{n} {verdict}' for verdict, n in counts.most_common())}.")
    lacking = [one.id for one in outcomes if one.verdict == "not observed"]
    if lacking:
        click.echo(f"No run could tell of: {', '.join(lacking)}.", err=True)
    if write:
        for path, text in ((EVIDENCE, evidence_csv(found)), (PAGE, claims_page(found))):
            path.write_text(text, encoding="utf-8")
            click.echo(f"wrote {path}")
    sys.exit(1 if lacking else 0)


@main.command()
@click.option("--write", is_flag=True, help="Write the files instead of comparing them.")
def docs(write: bool) -> None:
    """Check that the generated files are current: the schemas of cases and suites, and results/README.md.

    \b
    Example:  floodmark docs --write
    """
    from floodmark.docs import generated_files

    stale = [path for path, text in generated_files().items() if not _same(path, text)]
    for path in stale:
        if write:
            path.write_text(generated_files()[path], encoding="utf-8")
        click.echo(f"{'wrote' if write else 'not current, run make schema:'} {path}")
    sys.exit(1 if stale and not write else 0)


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text
