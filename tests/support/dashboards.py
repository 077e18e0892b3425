"""The committed dashboard: its panels and queries, and its variables filled in as Grafana does it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "overview.json"

Json = dict[str, Any]
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))")


class Query(NamedTuple):
    """A query of a panel."""

    panel: str
    ref_id: str
    expr: str


def load_dashboard() -> Json:
    """Return the committed dashboard."""
    found: Json = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels(dashboard: Json) -> list[Json]:
    """Return all panels but the rows, those in collapsed rows with them."""
    found: list[Json] = []
    for each in dashboard["panels"]:
        found += each["panels"] if each["type"] == "row" else [each]
    return found


def queries(dashboard: Json) -> Iterator[Query]:
    """Yield every query of every panel."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"])


def variables(dashboard: Json) -> dict[str, Json]:
    """Return the variables by name."""
    return {each["name"]: each for each in dashboard["templating"]["list"]}


class LabelValues(NamedTuple):
    """What a variable asks Prometheus: the values of a label of the series selected."""

    selector: str
    label: str


def asked(variable: Json) -> LabelValues:
    """Return what a variable's query asks for."""
    found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
    assert found is not None, variable["query"]
    return LabelValues(found["selector"], found["label"])


def used(text: str) -> set[str]:
    """Return the names of the variables in a text, Grafana's own (`__range`) among them."""
    return {found["braced"] or found["plain"] for found in _VARIABLE.finditer(text)}


def fill(text: str, values: Mapping[str, str | Sequence[str]]) -> str:
    """Fill in variables: one value is escaped as a string, several become a regular expression."""

    def value(found: re.Match[str]) -> str:
        chosen = values[found["braced"] or found["plain"]]
        if isinstance(chosen, str):
            return chosen.replace("\\", "\\\\").replace('"', '\\"')
        return "(" + "|".join(re.escape(each).replace("\\", "\\\\") for each in chosen) + ")"

    return _VARIABLE.sub(value, text)
