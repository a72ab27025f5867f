"""What the report of a run says, of whole runs and of damaged ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from floodmark.cli import main
from floodmark.model.stored import write_json
from floodmark.report import figures
from floodmark.report import run as report
from floodmark.report.run import report_of, write_report
from floodmark.runs.folders import RunFolder
from floodmark.show import run as show
from floodmark.verdict.judge import judge_run
from floodmark.verdict.rules import SOURCE_ANSWERED
from tests.floodmark.made_up_runs import MadeUpRuns
from tests.floodmark.report.conftest import Page, judged
from tests.floodmark.verdict.test_judge import NoAccept, silence

FIGURES = (
    "accept-queue",
    "states",
    "active",
    "answers",
    "errors",
    "memory",
    "own-memory",
    "bodies",
    "requests",
    "latency",
)


def read(run: RunFolder) -> Page:
    return Page(report_of(run))


def figures_of(page: Page) -> int:
    """Count the figures below the verdicts: the queue stands beside each verdict too."""
    return page.count("svg", **{"class": "plot"}) - page.count("figure", **{"class": "queue"})


def test_it_says_the_verdict_the_expectations_and_the_claims(fake: NoAccept) -> None:
    page = read(judged(fake))
    for text in (
        "Case 2: The upstream never calls accept()",
        "VALID , and all 13 expectations of our model hold.",
        "queue fills to limit plus one",
        "accepted requests plus 1. share of the moments of the flood in which Active = Q + A + 1",
        "max 9, median in the flood 9, at the end 9; limit 8",
    ):
        assert text in page.text


def test_every_figure_is_there_without_a_script(fake: NoAccept) -> None:
    page = read(judged(fake))
    assert figures_of(page) == len(FIGURES)
    assert page.count("figure", **{"class": "queue"}) == 1
    data = json.loads(page.scripts[0])
    assert tuple(figure["name"] for figure in data["hosts"][0]["figures"]) == FIGURES


def test_it_says_how_the_case_is_read_and_what_would_make_the_run_invalid(fake: NoAccept) -> None:
    text = read(judged(fake)).text
    assert "The accept queue climbs to its limit plus one" in text
    seen = "nothing was accepted: 0; connections waited in the queue: 9"
    assert f"✓ The misbehaviour of the case was seen {seen} invalid" in text
    assert "✓ The agent used little of a core at most 15.0%" in text


def test_a_rule_that_was_applied_to_much_has_one_row_with_what_broke_it(fake: NoAccept) -> None:
    silence(fake, "upstream_conns", "sock_diag refused")
    text = read(judged(fake)).text
    kept = (
        r"\d+ of \d+; upstream conns in the baseline: .*; upstream conns in the flood: .*; upstream conns in the drain"
    )
    assert re.search(rf"✗ {SOURCE_ANSWERED.asks} .* {kept}", text)


def test_an_invalid_run_says_why(fake: NoAccept) -> None:
    fake.load["unfinished"] = 3
    text = read(judged(fake)).text
    assert "INVALID : this run says nothing about the case, because" in text
    assert "3 requests were sent and never ended: the flood was cut off" in text


def test_it_needs_nothing_from_elsewhere_and_is_small(fake: NoAccept) -> None:
    page = read(judged(fake))
    assert len(page.source.encode()) < 3_000_000
    for _, attributes in page.elements:
        assert not {"src", "srcset", "href", "data", "action", "poster"} & attributes.keys(), attributes
    styles = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert not re.search(r"url\(|@import", "".join(styles))
    policy = next(found["content"] for tag, found in page.elements if tag == "meta" and "content" in found
                  and found.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    assert policy.startswith("default-src 'none'")


HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def test_text_of_logs_and_hosts_stays_text(fake: NoAccept) -> None:
    fake.files["nginx-error.log"] += f"2023/11/14 22:13:23 [error] 7#7: *5 {HOSTILE}, client: x\n"
    host = json.loads(fake.files["host.json"])
    fake.files["host.json"] = json.dumps({**host, "versions": {"os": HOSTILE}})
    fake.requests[-1] = fake.requests[-1].replace(",502,,", f',,"{HOSTILE}",')
    page = read(judged(fake))
    assert HOSTILE not in page.source
    assert f"error {HOSTILE} 1" in page.text
    assert f" os {HOSTILE}" in page.text
    assert f"1 × {HOSTILE}" in page.text
    assert HOSTILE in page.scripts[0].encode().decode("unicode_escape")
    assert page.count("script") == 2
    assert page.count("img") == 0


@pytest.mark.parametrize("name", ["accept_queue", "requests", "process", "nginx_errors"])
def test_a_table_that_is_missing_is_named_and_the_rest_is_shown(fake: NoAccept, name: str) -> None:
    run = judged(fake)
    run.host("proxy1").table(name).unlink()
    page = read(run)
    assert f"these tables were not written or are gone: {name}." in page.text
    assert "VALID , and all 13 expectations" in page.text
    assert figures_of(page) >= len(FIGURES) - 3


def test_a_table_of_another_version_is_named_and_what_it_has_is_drawn(fake: NoAccept) -> None:
    run = judged(fake)
    path = run.host("proxy1").table("requests")
    older = path.with_suffix(".older")
    duckdb.execute(f"COPY (SELECT * EXCLUDE (intended_ns, first_byte_ns) FROM '{path}') TO '{older}' (FORMAT parquet)")
    older.replace(path)
    page = read(run)
    assert "the table requests is of another version of Floodmark, it has no intended_ns, first_byte_ns" in page.text
    assert (
        "Of 12 requests it is not known how long they took: a time is missing. So the curve ends at 0.0%." in page.text
    )
    assert figures_of(page) == len(FIGURES) - 1


def test_a_table_that_is_damaged_within_costs_its_own_figures_alone(fake: NoAccept) -> None:
    run = judged(fake)
    path = run.host("proxy1").table("process")
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)  # the end has the columns, and is as it was
    path.write_bytes(content)
    page = read(run)
    assert "Memory It cannot be drawn: " in page.text
    assert figures_of(page) == len(FIGURES) - 3


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"expectations": "x"}, "expectations is 'x', and it should be a valid list"),
        ({"metrics": [1]}, "metrics is [1], and it should be a valid dictionary or instance of Metrics"),
        ({"metrics": {"sent": "many"}}, "metrics.sent is 'many', and it should be a valid integer"),
        ({"metrics": {}}, "it has no metrics, and a valid run has some"),
        ({"params": []}, "params is [], and it should be a valid dictionary"),
        ({"params": {"users": None}}, "params.users is None, and it should be a valid boolean or a valid integer or"),
        ({"kernel": 5}, "kernel is 5, and it should be a valid string"),
        ({"claims": [1]}, "claims.0 is 1, and it should be a valid dictionary"),
        ({"schema_version": 1, "valid": True, "reasons": None}, "reasons is None, and it should be a valid list"),
        ({"schema_version": "2"}, "schema_version is '2', and it should be a whole number from 1 on"),
    ],
)  # fmt: skip
def test_a_verdict_of_another_shape_is_named_and_the_rest_is_shown(
    fake: NoAccept, part: dict[str, Any], said: str
) -> None:
    run = judged(fake)
    path = run.host("proxy1").verdict
    path.write_text(json.dumps({**json.loads(path.read_text()), **part}))
    page = read(run)
    assert f"verdict.json is damaged: {said}" in page.text
    assert f"'floodmark judge {run.run_id}' makes it again." in page.text
    assert figures_of(page) > 0


def test_a_host_that_is_described_otherwise_is_named(fake: NoAccept) -> None:
    run = judged(fake)
    run.host("proxy1").description.write_text('{"kernel": {"release": 6}}')
    page = read(run)
    assert "host.json is damaged: kernel.release is 6, and it should be a valid string." in page.text
    assert figures_of(page) == len(FIGURES)


@pytest.mark.parametrize(
    "place", [(figures, "latency"), (report, "draw"), (report, "find_span"), (show, "key_figure_rows")], ids=str
)
def test_a_defect_in_what_draws_is_no_damage(
    fake: NoAccept, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    run = judged(fake)

    def defect(*_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(*place, defect)
    with pytest.raises(KeyError, match="a defect"):
        write_report(run)


def test_wrong_sql_of_ours_is_no_damage(fake: NoAccept, monkeypatch: pytest.MonkeyPatch) -> None:
    run = judged(fake)
    monkeypatch.setattr(figures, "same_moment", lambda _: "SELECT nothing FROM moments")
    with pytest.raises(duckdb.CatalogException):
        write_report(run)


def test_what_is_read_seldom_is_of_the_same_moment_for_longer(fake: NoAccept) -> None:
    """The status was read 90 ms before each look at the accepted connections, as it is with 10 Hz."""
    fake.files["stub_status.csv"] = re.sub(
        r"(?m)^(\d{10}),", lambda line: f"{int(line[1]) - 90_000_000},", fake.files["stub_status.csv"]
    )
    lines = json.loads(read(judged(fake)).scripts[0])["hosts"][0]["figures"][2]["lines"]
    (expected,) = (one for one in lines if one["label"] == "Q + A + 1 at the upstream")
    assert max(one for one in expected["y"] if one is not None) == 10


def test_active_stands_beside_both_readings_of_q_and_a(fake: NoAccept) -> None:
    """Two of the nine clients wait in front of nginx from 4 s to 5 s; all nine are at the upstream meanwhile."""
    for name, old, new in (("accept_queue", "front,0", "front,2"), ("stub_status", "10,9", "8,7")):
        fake.files[f"{name}.csv"] = re.sub(rf"(?m)^(4\d{{9}}),{old},", rf"\1,{new},", fake.files[f"{name}.csv"])
    lines = json.loads(read(judged(fake)).scripts[0])["hosts"][0]["figures"][2]["lines"]
    highest = {one["label"]: max(value for value in one["y"] if value is not None) for one in lines}
    # Three more clients are connected until they are refused.
    assert highest == {"Active": 10, "Q + A + 1 in front of nginx": 13, "Q + A + 1 at the upstream": 10}
    (in_front,) = (one for one in lines if one["label"] == "Q + A + 1 in front of nginx")
    assert in_front["y"] == [1, 13, 10, 1, 1]


def test_clients_that_keep_their_connections_are_in_no_line(fake: NoAccept) -> None:
    run = judged(fake)
    verdict = json.loads(run.host("proxy1").verdict.read_text())
    verdict["params"]["keepalive"] = True
    write_json(run.host("proxy1").verdict, verdict)
    page = read(run)
    labels = [one["label"] for one in json.loads(page.scripts[0])["hosts"][0]["figures"][2]["lines"]]
    assert labels == ["Active", "Q + A + 1 at the upstream"]
    assert page.text.count("Clients keep their connections after an answer") == 2, "in the diagram and in the figure"


def test_a_damaged_table_is_named(fake: NoAccept) -> None:
    run = judged(fake)
    run.host("proxy1").table("stub_status").write_bytes(b"no parquet")
    assert "the table stub_status is damaged: " in read(run).text


def test_without_run_json_and_plan_it_shows_what_the_hosts_have(fake: NoAccept) -> None:
    run = judged(fake)
    run.record.unlink()
    page = read(run)
    assert "Neither run.json nor plan.json can be read" in page.text
    assert figures_of(page) == len(FIGURES)


def test_a_verdict_of_an_older_version_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    run = RunFolder(Path(MadeUpRuns(tmp_path).add()))
    said = {
        "run_id": run.run_id, "host": "proxy1", "valid": True, "doubts": ["it was late"], "params": {"users": 32},
        "expectations": [{"name": "x", "value": 1, "holds": True, "condition": "value = 1"}],
        "metrics": {"accept_queue_max": 9, "request_median_s": 0.001},
    }  # fmt: skip
    write_json(run.host("proxy1").verdict, said)
    text = read(run).text
    assert "VALID , and all 1 expectations of our model hold. Note: it was late." in text
    assert "max 9, median in the flood -" in text
    assert re.search(
        r"missing accept_queue_median, .*request_median_s, .* version 1 measured it in another way, or not at all; "
        f"'floodmark judge {run.run_id}' measures it",
        text,
    )
    assert "median -, p99 -, max -" in text, "what is missing is neither a number nor beyond all numbers"


def test_a_claim_of_an_older_version_is_shown_as_far_as_it_goes(fake: NoAccept) -> None:
    run = judged(fake)
    verdict = json.loads(run.host("proxy1").verdict.read_text())
    verdict["claims"] = [{"study": "Several lines.", "verdict": "confirmed", "value": 10}]
    write_json(run.host("proxy1").verdict, verdict)
    assert "confirmed Several lines. 10" in read(run).text


@pytest.mark.parametrize("content", ['{"case": 3}', '{"hosts": {"proxies": 7}}', "[]", "{"])
def test_a_damaged_run_is_a_sentence_and_no_traceback(fake: NoAccept, content: str) -> None:
    run = judged(fake)
    run.record.write_text(content)
    done = CliRunner().invoke(main, ["report", str(run.path) + "/"])
    assert done.exit_code in (0, 2)
    assert not done.exception or isinstance(done.exception, SystemExit)
    said = done.output + (run.path / "report.html").read_text() if done.exit_code == 0 else done.output
    assert "damaged" in said


def test_a_run_that_is_under_way_is_not_called_complete(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1")
    text = read(fake.run).text
    assert "The run is not complete, it has no run.json" in text
    assert "NO VERDICT : this host has no verdict.json." in text


def test_a_host_that_failed_has_its_reason_and_no_figures(fake: NoAccept) -> None:
    fake.write_plan("proxy1")
    fake.run.host("proxy1").path.mkdir()
    fake.run.host("proxy1").failure.write_text("ssh: no route to host")
    judge_run(fake.run)
    page = read(fake.run)
    assert "ssh: no route to host" in page.text
    assert page.count("svg") == 0


def test_a_source_that_failed_is_a_gap_with_its_reason_and_no_zero(fake: NoAccept) -> None:
    fake.files["stub_status.csv"] = re.sub(
        r"(?m)^(5\d{9}),.*$", r"\1,,,,,,,,,the status page did not answer", fake.files["stub_status.csv"]
    )
    page = read(judged(fake))
    assert "Gap: 10 readings failed: the status page did not answer." in page.text
    drawn = {one["name"]: one for one in json.loads(page.scripts[0])["hosts"][0]["figures"]}
    active = next(line for line in drawn["active"]["lines"] if line["label"] == "Active")
    assert active["y"].count(None) >= 1
    assert 0 not in active["y"]


def test_what_clients_gave_up_is_in_no_curve_and_in_the_denominator(fake: NoAccept) -> None:
    fake.requests = [line.replace(",504,,", ",,timeout,") for line in fake.requests]
    page = read(judged(fake))
    assert (
        "9 were given up by the client and took longer than any that is drawn. So the curve ends at 25.0%." in page.text
    )
    assert "9 requests were given up by their client after 20 s: the host was too slow" in page.text
    latency = json.loads(page.scripts[0])["hosts"][0]["figures"][-1]
    assert latency["lines"][0]["y"][-1] == 25


def test_several_hosts_have_a_section_each_on_shared_axes(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1", "proxy2")
    for place in (fake.run.path, fake.run.path / "load"):
        shutil.copytree(place / "proxy1", place / "proxy2")
    judge_run(fake.run)
    page = read(fake.run)
    assert page.count("section", **{"class": "host"}) == 2
    assert figures_of(page) == 2 * len(FIGURES)
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ["#proxy1", "#proxy2"]
    one, other = json.loads(page.scripts[0])["hosts"]
    assert [figure["highest"] for figure in one["figures"]] == [figure["highest"] for figure in other["figures"]]


def test_the_command_writes_it_and_says_where(fake: NoAccept, tmp_path: Path) -> None:
    run = judged(fake)
    done = CliRunner().invoke(main, ["report", str(run.path) + "/"])
    assert (done.exit_code, done.output.strip()) == (0, str(run.path / "report.html"))
    elsewhere = tmp_path / "elsewhere.html"
    assert CliRunner().invoke(main, ["report", str(run.path) + "/", "-o", str(elsewhere)]).exit_code == 0
    assert elsewhere.read_text() == (run.path / "report.html").read_text()


def test_the_judge_writes_it_and_the_page_of_all_runs(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1")
    done = CliRunner().invoke(main, ["judge", "--quiet", str(fake.run.path) + "/"])
    assert done.exit_code == 0, done.output
    assert (fake.run.path / "report.html").exists()
    assert f'href="{fake.run.run_id}/report.html"' in (fake.run.path.parent / "index.html").read_text()


def test_what_cannot_be_written_is_one_sentence(fake: NoAccept, tmp_path: Path) -> None:
    run = judged(fake)
    done = CliRunner().invoke(main, ["report", str(run.path) + "/", "-o", str(tmp_path / "no" / "such.html")])
    assert done.exit_code == 2
    assert "such.html cannot be written: No such file or directory" in done.output
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds nothing of a run" in done.output


def test_a_run_in_virtual_time_has_its_path_lengths(fake: NoAccept) -> None:
    run = judged(fake)
    verdict = json.loads(run.host("proxy1").verdict.read_text())
    figure = {
        "median": 257400.0, "half_spread": 0.0008, "undetected_drift": 0.0021, "steady": 30, "warm_up": 10,
        "operations": 4000,
    }  # fmt: skip
    verdict |= {"clock": "virtual", "metrics": {"workloads": {"request_proxied": figure}}, "phases": [], "claims": []}
    verdict["expectations"] = []
    write_json(run.host("proxy1").verdict, verdict)
    text = read(run).text
    assert "a request proxied 257,400 instructions ±0.08%, drift ≤ 0.21% 30 steady windows, n = 4000" in text
    assert "VALID : nothing is predicted of it, it was measured." in text


def test_the_page_is_written_whole_or_not_at_all(fake: NoAccept) -> None:
    run = judged(fake)
    write_report(run)
    assert [path.name for path in run.path.iterdir() if "report" in path.name] == ["report.html"]
