"""The HTML page: page.html filled with what the JSON file holds. One file without links, scripts or pictures from elsewhere."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import figures
from .charts import charts

__all__ = ["render"]


def render(report: dict[str, Any]) -> str:
    """The page of a report as `Report.as_dict` gives it."""
    pages = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {name: getattr(figures, name) for name in figures.__all__}
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in report["results"]:
        tables.setdefault(" ".join(filter(None, (row["operation"], row["algorithm"]))), []).append(row)
    return pages.get_template("page.html").render(report=report, charts=charts(report["results"]), tables=tables)
