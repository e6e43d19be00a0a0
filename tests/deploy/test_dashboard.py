"""The dashboard and the rules ask for what there is; the dashboard is one that Grafana can show."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from real_server import Served

# What Prometheus adds to every series, and what a histogram's series have.
KNOWN_LABELS = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def samples(served: Served, key: str) -> dict[str, set[str]]:
    """The real page's series: the labels of each, by name."""
    page = httpx.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.raise_for_status().text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def test_every_series_that_is_asked_for_is_there(
    samples: dict[str, set[str]], queries: dict[str, str], rules: list[dict[str, Any]]
) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    asked = [*queries.values(), *(rule["expr"] for rule in rules)]
    names = {name for expression in asked for name in re.findall(r"\bpenstock[\w:]*\b(?!\")", expression)}
    assert names - recorded - samples.keys() == set()
    assert recorded <= names, "recorded, but asked for by nobody"
    for expression in asked:
        for name, matchers in re.findall(r"(penstock_\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= samples[name] | KNOWN_LABELS, expression


def test_every_rule_tells_what_is_wrong(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning") and rule["for"]
            assert rule["annotations"].keys() == {"summary", "description"}


def test_every_panel_can_be_understood(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]


def test_the_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_everything_asks_the_provisioned_source(dashboard: dict[str, Any], compose: dict[str, Any], root: Path) -> None:
    provisioning = root / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/penstock.yml").read_text())["providers"]
    uids = set(re.findall(r"'uid': '([\w-]+)'", str([dashboard["panels"], dashboard["templating"]])))
    assert uids == {source["uid"]}
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    # The folder of dashboards is where the provider looks, and the home page is one of them.
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/penstock.json"
    config = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
