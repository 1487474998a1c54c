"""The alert rules, the example to scrape and the dashboard, as files: promtool and a reader find no fault in them."""

import json
from itertools import combinations
from typing import Any

import pytest
import yaml

from docs.tables import PAGES, ROOT
from labkit.prometheus import promtool

HERE = ROOT / "dhcpd" / "prometheus"
RULES = HERE / "macbind.rules.yml"
TESTS = ROOT / "tests" / "prometheus" / "alerts.test.yml"
DASHBOARD = json.loads((ROOT / "dhcpd" / "grafana" / "macbind.json").read_text(encoding="utf-8"))
COMMANDS = ("`macbind status`", "`macbind pools`", "`systemctl status macbind`")


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def test_promtool_takes_rules_and_example() -> None:
    """Both are what this Prometheus can load, and the example names the rules as they are installed."""
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))
    assert "1 rule files found" in promtool("check", "config", str(HERE / "scrape.yml"))


def test_each_alert_fires_when_it_should_and_not_on_a_blip() -> None:
    """promtool plays the series of the test file; each alert is expected there, and expected to be silent."""
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))
    expected: dict[str, set[bool]] = {}
    for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        for one in test["alert_rule_test"]:
            expected.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert expected == {one["alert"]: {True, False} for one in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """It has a severity, waits for a blip to pass, says what is wrong, and names the command to run."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["for"]
    assert rule["annotations"]["summary"].endswith(".")
    assert any(command in rule["annotations"]["description"] for command in COMMANDS)


def test_the_documentation_names_each_alert() -> None:
    """The table of alerts has each of them with its time."""
    page = (PAGES / "operate" / "monitoring.md").read_text(encoding="utf-8")
    for rule in rules():
        assert f"| `{rule['alert']}` | {rule['for'].removesuffix('m')} min |" in page
    assert page.count("| `Macbind") == len(rules())


def test_panels_of_the_dashboard_are_complete_and_apart() -> None:
    """Each panel has a title, an id, a place of its own within 24 columns, and a text; each query a name."""
    panels = DASHBOARD["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    for panel in panels:
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith((".", "macbind status", "errors.md"))
            names = [target["refId"] for target in panel["targets"]]
            assert names == sorted(set(names)) != []


def test_variables_of_the_dashboard_are_those_it_uses() -> None:
    """Data source, service and pool can be chosen, and nothing else stands behind a dollar."""
    known = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert known == {"datasource", "instance", "pool"}
    text = json.dumps(DASHBOARD["panels"])
    for name in known:
        assert f"${name}" in text or f"${{{name}}}" in text
    rest = text.replace("${datasource}", "").replace("$instance", "").replace("$pool", "")
    assert "$" not in rest.replace("$__rate_interval", "")
