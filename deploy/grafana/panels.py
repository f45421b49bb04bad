"""What a panel is here, and how it becomes a builder of Grafana's own library.

A panel is data: a title, the question it answers, a unit, and its queries. Sizes, colours and legends are decided in
this file once, so that a dashboard reads as a list of questions.

    Panel(title="Messages rejected", question="Is somebody forging?", unit="short", queries={"{{reason}}": "..."})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

# The data source is a variable of the dashboard: the same file works whatever name the operator gave it.
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# The scrape interval of our examples: Grafana takes rates over at least four of them.
LEAST_INTERVAL = "15s"

Visual = TypeVar("Visual", stat.Panel, timeseries.Panel)


def growth(metric: str, by: str, at: str) -> str:
    """A query: how much a counter grew where the labels are `at`, by one label or several."""
    return f"sum by ({by}) (increase({metric}{{{at}}}[$__rate_interval]))"


def quantile(q: float, metric: str, at: str, window: str, *by: str) -> str:
    """A query: a quantile of a histogram over a window, by no label or some."""
    labels = ", ".join([*by, "le"])
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{at}}}[{window}])))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question. `queries` maps a legend to its PromQL; what lies beyond `limit` is red (`below`: short of it)."""

    title: str
    question: str
    unit: str
    queries: Mapping[str, str]
    kind: Literal["number", "lines", "bars"] = "lines"
    width: int = 8
    limit: float | None = None
    below: bool = False

    def build(self) -> stat.Panel | timeseries.Panel:
        """The builder of this panel."""
        if self.kind == "number":
            return self._asking(stat.Panel().graph_mode(BigValueGraphMode.NONE).height(4))
        legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
        tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
        panel = timeseries.Panel().height(8).legend(legend).tooltip(tooltip).axis_soft_min(0)
        if self.kind == "bars":
            stacked = common.StackingConfig().mode(StackingMode.NORMAL)
            panel = panel.draw_style(GraphDrawStyle.BARS).stacking(stacked).fill_opacity(60)
        else:
            panel = panel.line_width(2).show_points(VisibilityMode.NEVER)
        return self._asking(panel)

    def _asking(self, panel: Visual) -> Visual:
        panel = panel.title(self.title).description(self.question).unit(self.unit).span(self.width)
        panel = panel.datasource(SOURCE).interval(LEAST_INTERVAL)
        if self.limit is not None:
            before, after = ("red", "green") if self.below else ("green", "red")
            steps = [Threshold(value=None, color=before), Threshold(value=self.limit, color=after)]
            panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        for letter, (legend, expression) in zip("ABCDEFGH", self.queries.items(), strict=False):
            query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)
            panel = panel.with_target(query.instant() if self.kind == "number" else query.range())
        return panel


def board(
    *, uid: str, title: str, text: str, job: str, span: str, rows: Sequence[tuple[str, Sequence[Panel]]]
) -> dashboard.Dashboard:
    """A dashboard of titled rows, over the last `span`, for the instances that Prometheus scrapes as `job`."""
    instances = (
        dashboard.QueryVariable("instance")
        .datasource(SOURCE)
        .query(f'label_values(up{{job="{job}"}}, instance)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
    result = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["sordino"])
        .readonly()
        .time(f"now-{span}", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(instances)
    )
    for name, panels in rows:
        result = result.with_row(dashboard.Row(name))
        for panel in panels:
            result = result.with_panel(panel.build())
    return result
