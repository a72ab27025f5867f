"""Every template renders with what the roles define, and nothing undefined is left silent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.conftest import ROOT

TEMPLATES = sorted((ROOT / "roles").glob("*/templates/*.j2"))


def render(path: Path, **changes: Any) -> str:
    """Render a template as Ansible does, with the defaults of its role."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters.update(
        comment=lambda text: f"# {text}",
        dirname=lambda text: str(Path(text).parent),
        basename=lambda text: Path(text).name,
        union=lambda one, other: list(dict.fromkeys([*one, *other])),
    )
    variables = yaml.safe_load((path.parent.parent / "defaults/main.yml").read_text())
    template = environment.from_string(path.read_text())
    return template.render(ansible_managed="Ansible managed", **{**variables, **changes})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_renders_with_the_defaults_of_its_role(path: Path) -> None:
    text = render(path)
    assert "{{" not in text
    assert text.endswith("\n")


def test_nginx_conf_has_each_directive_from_its_variable() -> None:
    text = render(
        ROOT / "roles/nginx/templates/nginx.conf.j2",
        nginx_worker_connections=77,
        nginx_listen_backlog=16,
        nginx_keepalive_timeout="10s",
        nginx_proxy_buffering="off",
        nginx_status_path="/stats",
        nginx_status_allow=["10.0.0.0/8"],
        nginx_proxy_read_timeout="9s",
        nginx_upstream_servers=["127.0.0.1:9000", "unix:/run/two.sock"],
    )
    assert "worker_connections 77;" in text
    assert "listen 8080 backlog=16;" in text
    assert "keepalive_timeout 10s;" in text
    assert "proxy_buffering off;" in text
    status = text.partition("location = /stats {")[2].partition("}")[0]
    assert status.split("deny")[0].count("allow") == 2
    assert status.index("allow 127.0.0.1;") < status.index("allow 10.0.0.0/8;") < status.index("deny all;")
    assert "proxy_read_timeout 9s;" in text
    assert "        server 127.0.0.1:9000;\n        server unix:/run/two.sock;\n    }" in text


def test_nginx_has_so_many_listens_and_so_many_locations_with_a_proxy_pass() -> None:
    template = ROOT / "roles/nginx/templates/nginx.conf.j2"
    one = render(template)
    assert one.count("listen 8080 backlog=4096;") == one.count("listen ") == 1
    assert re.findall(r"location / \{\n +proxy_pass (\S+);", one) == ["http://floodmark_upstream"]
    text = render(template, nginx_listens=3, nginx_listen_port="8181", nginx_proxy_passes=2)
    assert re.findall(r"listen (\d+) ", text) == ["8181", "8182", "8183"]
    assert re.findall(r"upstream (\w+) \{\n +server (\S+);", text) == [
        ("floodmark_upstream", "unix:/run/floodmark-upstream/upstream.sock"),
        ("floodmark_upstream_2", "unix:/run/floodmark-upstream/upstream.sock"),
    ]
    assert re.findall(r"location (/\S*) \{\n +proxy_pass http://(\S+);", text) == [
        ("/", "floodmark_upstream"), ("/floodmark-2", "floodmark_upstream_2"),
    ]  # fmt: skip
    assert text.count("proxy_read_timeout 60s;") == 2


def test_nginx_answers_nobody_but_those_who_flood_it() -> None:
    template = ROOT / "roles/nginx/templates/nginx.conf.j2"
    assert "deny" not in render(template).partition("location =")[0], "who is not named by anybody"
    front = render(template, nginx_allow=["192.0.2.21", "127.0.0.1", "198.51.100.0/24"]).partition("location /")[0]
    assert re.findall(r"(?:allow|deny) .*?;", front) == [
        "allow 127.0.0.1;", "allow 192.0.2.21;", "allow 198.51.100.0/24;", "deny all;",
    ]  # fmt: skip
