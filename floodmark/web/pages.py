"""What Locust's web page has in addition: a login, two tabs, and a look at what a flood is to be.

The tabs "Accept queue" and "Access log" stand below `/accept-queue/` and `/access-log/`, which are pages by themselves
too; `tabs.js` shows them inside Locust's.
"""

from __future__ import annotations

import csv
import hmac
import io
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import gevent
from flask import Blueprint, Flask, Response, jsonify, redirect, request, send_from_directory, session
from flask_login import UserMixin, current_user, login_user
from locust.web import WebUI

from floodmark.errors import FloodmarkError
from floodmark.inputs.parameters import OF_THE_FLOOD
from floodmark.values import ParameterValue
from floodmark.web import access_log
from floodmark.web.access_log import AccessLog, is_from_this_page
from floodmark.web.feed import Sample
from floodmark.web.session import HELD, Session

STATIC = Path(__file__).parent / "static"
KEY = "accept-queue"
# Key of each tab, which is its address too, and its title.
TABS = {KEY: "Accept queue", "access-log": "Access log"}
# Names that a browser on this machine, or at the other end of an ssh -L, may know the page by: others are of somebody
# who has bent his own name to this address.
OWN_NAMES = {"127.0.0.1", "localhost"}
# Whoever guesses passwords may do so this often (s).
GUESS_S = 1
# Samples that one answer has at most: what a browser asks for after it was away for long.
MOST_AT_ONCE = 4 * 1800


class Visitor(UserMixin):  # type: ignore[misc]  # flask_login has no types
    """Whoever knows the password; there is only one kind."""

    id = "visitor"


def add_pages(web_ui: WebUI, state: Session, log: AccessLog, password: str) -> None:
    """Add everything to Locust's web page.

    Args:
        web_ui: the page.
        state: what is shown.
        log: what is shown of nginx's log.
        password: that opens it.
    """
    assert web_ui.app
    app = web_ui.app
    app.secret_key = secrets.token_bytes(32)
    app.config.update(SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_HTTPONLY=True)
    _add_login(web_ui, app, password)
    app.before_request(_refuse_other_names)
    app.before_request(_refuse_other_pages)
    app.before_request(lambda: _wait_for_form(state))
    app.before_request(lambda: _look_at_flood(state))
    app.after_request(_add_tabs)
    web_ui.template_args["extended_tabs"] = [{"title": title, "key": key} for key, title in TABS.items()]
    web_ui.template_args["extended_csv_files"] = [{"href": f"./{KEY}/csv", "title": "Download accept queue CSV"}]
    for key, blueprint in zip(TABS, (_pages(web_ui, state), access_log.pages(log)), strict=True):
        blueprint.before_request(lambda: None if current_user.is_authenticated else redirect("/login"))
        app.register_blueprint(blueprint, url_prefix=f"/{key}")


# --- who may look ---------------------------------------------------------------------------------


def _add_login(web_ui: WebUI, app: Flask, password: str) -> None:
    web_ui.auth_args = {
        "custom_form": {
            "inputs": [{"label": "Password", "name": "password", "is_secret": True, "is_required": True}],
            "callback_url": "./password",
            "submit_button_text": "Log in",
        },
    }
    web_ui.login_manager.user_loader(lambda _: Visitor())

    def take_password() -> Any:
        if hmac.compare_digest(request.form.get("password", "").encode(), password.encode()):
            login_user(Visitor())
            session["auth_error"] = None
            return redirect("/")
        gevent.sleep(GUESS_S)
        session["auth_error"] = "This is not the password: it is in the terminal where the page was started."
        return redirect("/login")

    app.add_url_rule("/password", view_func=take_password, methods=["POST"])


def _refuse_other_names() -> Response | None:
    if request.host.rpartition(":")[0] in OWN_NAMES:
        return None
    return Response(
        f"This page is at 127.0.0.1 or localhost, and not at {request.host!r}.\n", 421, mimetype="text/plain"
    )


def _refuse_other_pages() -> Response | None:
    if request.method in ("GET", "HEAD", "OPTIONS") or is_from_this_page():
        return None
    return Response(
        f"Only a page of http://{request.host} may ask for this, and not one of {request.headers.get('Origin')}.\n",
        403,
        mimetype="text/plain",
    )


def _wait_for_form(state: Session) -> None:
    """Hold Locust's page back until its form can have the values of a case; they are in the page."""
    if request.path == "/":
        state.was_held.wait()


# --- what may be sent -----------------------------------------------------------------------------


def _look_at_flood(state: Session) -> Response | None:
    """Refuse a flood that the case's host cannot have; Locust shows why."""
    if request.path != "/swarm" or not current_user.is_authenticated:  # Locust sends others to its login
        return None
    target = state.hold.target if state.hold else None
    try:
        _check_flood(state, request.form)
    except FloodmarkError as error:
        return jsonify({"success": False, "message": str(error), "host": target})
    return None


def _check_flood(state: Session, form: Mapping[str, str]) -> None:
    hold = state.hold
    if hold is None or state.state != HELD:
        raise FloodmarkError(f"no case is held up, the host is {state.state}: wait until that is done.")
    if form.get("host", hold.target) != hold.target:
        raise FloodmarkError(f"host={form['host']} is not allowed: the flood goes to {hold.target} and nowhere else.")
    given = {name: form[name] for name in OF_THE_FLOOD if name in form}
    state.resolve(hold.case, **{**given, "users": form.get("user_count", "")})


# --- the tabs -------------------------------------------------------------------------------------


def _add_tabs(response: Response) -> Response:
    if request.path == "/" and response.mimetype == "text/html" and response.status_code == 200:
        page = response.get_data(as_text=True)
        script = f'<script src="./{KEY}/static/tabs.js"></script></body>'
        response.set_data(page.replace("</body>", script))
    return response


def _pages(web_ui: WebUI, state: Session) -> Blueprint:
    pages = Blueprint("accept_queue", __name__)

    def samples() -> Response:
        return jsonify(_told(web_ui, state, request.args.get("after", 0.0, type=float)))

    def as_csv() -> Response:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Sample._fields)
        writer.writerows(state.samples)
        named = {"Content-Disposition": "attachment; filename=accept-queue.csv"}
        return Response(text.getvalue(), mimetype="text/csv", headers=named)

    def switch() -> Any:
        try:
            state.wish_for((request.json or {}).get("case"))
        except FloodmarkError as error:
            return jsonify({"message": str(error)}), 409
        return jsonify({})

    pages.add_url_rule("/", "page", lambda: send_from_directory(STATIC, "accept-queue.html"))
    pages.add_url_rule("/static/<path:name>", "static", lambda name: send_from_directory(STATIC, name))
    pages.add_url_rule("/samples", view_func=samples)
    pages.add_url_rule("/csv", view_func=as_csv)
    pages.add_url_rule("/case", view_func=switch, methods=["POST"])
    return pages


class _Hold(TypedDict):
    """The case that the host has, or had last."""

    run_id: str
    case: int
    title: str
    host: str
    target: str
    transport: ParameterValue
    somaxconn: ParameterValue


class _Told(TypedDict):
    """What the page's script asks for several times a second; accept-queue.js shows it."""

    state: str
    failure: str
    phase: str
    flood: str
    hold: _Hold | None
    cases: dict[int, str]
    marks: list[tuple[float, str]]
    columns: tuple[str, ...]
    samples: list[Sample]


def _told(web_ui: WebUI, state: Session, after_s: float) -> _Told:
    """Return what a browser does not know yet."""
    hold = state.hold
    return {
        "state": state.state,
        "failure": state.failure,
        "phase": state.phase,
        "flood": web_ui.environment.runner.state if web_ui.environment.runner else "missing",
        "hold": None if hold is None else {
            "run_id": hold.run_id,
            "case": hold.case,
            "title": hold.title,
            "host": hold.host,
            "target": hold.target,
            "transport": hold.parameters["transport"],
            "somaxconn": hold.parameters["somaxconn"],
        },
        "cases": {number: case.title for number, case in state.cases().items()},
        "marks": state.marks,
        "columns": Sample._fields,
        "samples": [sample for sample in state.samples if sample.time_s > after_s][-MOST_AT_ONCE:],
    }  # fmt: skip
