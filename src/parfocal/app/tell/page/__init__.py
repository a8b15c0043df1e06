"""The page: report.html in the folder of a model, one file that asks nobody for anything.

data.py      every number of it, as plain values (`data_of`)
words.py     its sentences;  svg.py, charts.py  its pictures
report.html, style.css, script.js      what `render` puts them into

The page carries its data as JSON, so that it can be drawn again: `render(read_data(page))` is the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from parfocal.app.model.decisions import Evidence
from parfocal.app.model.outcomes import Decided
from parfocal.app.study.curves import confusion
from parfocal.app.study.study import Study
from parfocal.app.tell.page import charts, svg, words
from parfocal.app.tell.page.data import curve_of, data_of, decisions_of, plain

__all__ = ["data_of", "decisions_of", "page_of", "read_data", "render", "with_decisions"]

HERE = Path(__file__).parent
BEGIN = '<script type="application/json" id="parfocal-report">'


def page_of(study: Study) -> str:
    return render(data_of(study))


def render(data: Mapping[str, Any]) -> str:
    """The page of what `data_of` gave, or of what `read_data` read."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": svg.percent, "number": svg.number, "listed": words.listed_names}
    return environment.get_template("report.html").render(
        data=data,
        charts=charts,
        words=words,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "script.js").read_text(encoding="utf-8")),
        json=Markup(embedded(data)),
    )


def with_decisions(page: str, found: Sequence[Decided], evidence: Evidence) -> str:
    """The page with other decisions.  Mistakes that the first no longer makes leave it; new ones need a fit."""
    data, test = read_data(page), evidence.test
    decided = found[0].decision(test.probabilities)
    data["decisions"] = decisions_of(found)
    if test.classes == 2:
        data["curve"] = curve_of(test.labels, test.probabilities, test.weights, found)
    else:
        data["classes"]["confusion"] = confusion(test.labels, decided, test.classes)
    names = data["target"]["classes"]
    for kind, mistakes in data["mistakes"].items():
        wrong = [one for one in mistakes if decided[one["place"]] != test.labels[one["place"]]]
        data["mistakes"][kind] = [{**one, "decided": names[decided[one["place"]]]} for one in wrong]
    return render(plain(data))


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that cannot end its element: `<` is written as JSON allows."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read_data(page: str) -> dict[str, Any]:
    """The data of a page.  Raises ValueError for what is no page of ours."""
    found = re.search(re.escape(BEGIN) + "(.*?)</script>", page, re.DOTALL)
    if found is None:
        raise ValueError("it is not a report of parfocal fit: it has no data in it")
    data = json.loads(found[1])
    if not isinstance(data, dict) or "decisions" not in data:
        raise ValueError("it is not a report of parfocal fit: its data are others")
    return data
