"""A study as a W&B report: what is tested stands in tables of this program, and beside them the panels of W&B.

Every number of a verdict or a test comes from the results; W&B draws the runs that it holds.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from typing import Any

from ablate.evaluation.measures import P_MRR
from ablate.records import UserError
from ablate.secrets import scrub_text, scrub_texts
from ablate.tables import escape_markdown, to_markdown
from ablate.tracking.names import metric_name
from analysis.page.record import Grid, Report
from analysis.page.source import NDCG, Source
from analysis.page.write import verdict_lines
from analysis.stats.matrix import Cell

EXTRA = "wandb-reports"
_MOST_PANELS = 12
"""Values that get a panel, and columns of the parallel coordinates: the first ones, those of the claims."""


def check_installed() -> None:
    """Raise UserError without the package that describes reports of W&B."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError(f'reports of W&B need the extra {EXTRA}: pip install -e ".[{EXTRA}]"')


@dataclass(frozen=True)
class Panels:
    """What the panels show, by the names that values have in W&B."""

    values: tuple[str, ...]
    """Means of the main measures in each place, those of the claims first."""
    scatters: tuple[tuple[str, str], ...]
    """nDCG@10 and p-MRR of one place."""
    keys: tuple[str, ...]
    """Keys of the configuration in which the trained arms differ."""
    untrained: tuple[str, ...]
    """Arms that train nothing: they have no run in W&B."""


def panels_of(source: Source, report: Report) -> Panels:
    """Return what the panels of a study show; macro means over data sets are no values of a run."""
    cells = [target.cell for target in source.main_places if target.cell in source.study.table.cells]
    beside = [(cell._replace(measure=NDCG), cell) for cell in cells if cell.measure == P_MRR]
    differing = [grid for grid in report.grids if grid.key == "configuration_differs"]
    return Panels(
        values=tuple(map(value_name, cells)),
        scatters=tuple((value_name(x), value_name(y)) for x, y in beside if x in source.study.table.cells),
        keys=tuple(row[0] for grid in differing for row in grid.rows),
        untrained=tuple(dict.fromkeys(run.arm for run in source.study.evidence.runs if run.train is None)),
    )


def value_name(cell: Cell) -> str:
    """Return the name of a place's mean in W&B."""
    return metric_name(f"{cell.dataset}/{cell.condition}/{cell.direction}/{cell.measure}")


def texts(report: Report, panels: Panels) -> tuple[str, str]:
    """Return the Markdown above and below the panels: verdicts and contrasts; where the numbers are from."""
    say = escape_markdown
    above = [
        f"**{say(report.headline)}**",
        "",
        *(f"- {say(check.name)}: {say(check.found)}" for check in report.failing),
    ]
    above += ["", *(f"- {say(name)}: {say(value)}" for name, value in report.facts), "", *verdict_lines(report)]
    above += [to_markdown(grid.table()) for grid in report.grids if _is_shown(grid)]
    below = ["The panels draw the runs that W&B holds; every number in the text is from the results on the disk.", ""]
    if panels.untrained:
        below += [f"Without a run in W&B, since they train nothing: {say(', '.join(panels.untrained))}.", ""]
    commands = dict.fromkeys([report.verdict_command, *(part.command for part in report.sections), report.made_by])
    below += ["Printed by:", "", *(f"- `{command}`" for command in commands if command and "`" not in command)]
    return scrub_text("\n".join(above)), scrub_text("\n".join(below))


def _is_shown(grid: Grid) -> bool:
    return grid.key == "contrasts"


def describe(report: Report, panels: Panels, entity: str, project: str, *, linked: bool) -> Any:
    """Return the report as wandb-workspaces has it.

    `linked`: its run sets name the project, for which the package asks the server; else they are those of the project
    that the report lies in. Raises UserError without the package.
    """
    check_installed()
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    where = {"entity": entity, "project": project} if linked else {}
    runs = wr.Runset(name=report.study, filters=[expr.Metric("Group") == report.study], **where)
    grouped = wr.Runset(
        name=f"{report.study} by arm",
        filters=[expr.Metric("Group") == report.study, expr.Metric("State") == "finished"],
        groupby=["config.arm"],
        **where,
    )
    arm = wr.Config("arm")
    bars = [
        wr.BarPlot(
            title=name,
            metrics=[name],
            groupby=arm,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for name in panels.values[:_MOST_PANELS]
    ]
    loss = wr.LinePlot(
        title="loss", x="Step", y=["loss"], groupby=arm, groupby_aggfunc="mean", groupby_rangefunc="stddev"
    )
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key)) for key in panels.keys[:_MOST_PANELS]]
    columns += [
        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(name)) for name in panels.values[:_MOST_PANELS]
    ]
    scatters = [
        wr.ScatterPlot(title=f"{y} against {x}", x=wr.SummaryMetric(x), y=wr.SummaryMetric(y))
        for x, y in panels.scatters
    ]
    above, below = texts(report, panels)
    return wr.Report(
        project=project,
        entity=entity,
        title=f"Study {report.study}"[:128],
        description=scrub_text(report.question),
        width="fluid",
        blocks=[
            wr.MarkdownBlock(text=above),
            wr.H2(text="By arm: mean over seeds, and its standard deviation"),
            wr.PanelGrid(runsets=[grouped], panels=[*bars, loss]),
            wr.H2(text="Run by run"),
            wr.PanelGrid(
                runsets=[runs],
                panels=[wr.RunComparer(diff_only=True), *scatters, wr.ParallelCoordinatesPlot(columns=columns)],
            ),
            wr.MarkdownBlock(text=below),
        ],
    )


def specification(described: Any) -> dict[str, Any]:
    """Return a described report as plain values: title, description, project, and what W&B keeps as its `spec`."""
    model = described._to_model()  # the package has no public way to write a report down
    spec = json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
    values: dict[str, Any] = scrub_texts(
        {
            "title": described.title,
            "description": described.description,
            "entity": described.entity,
            "project": described.project,
            "spec": spec,
        }
    )
    return values
