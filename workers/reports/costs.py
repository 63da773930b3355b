"""What the loop costs: by day and role, and what a million predictions, a retrain, a point cost."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from streams.metering.account import DAY
from workers.costs.budget import money
from workers.costs.statement import Statement
from workers.costs.summing import Spent
from workers.reports.drawing import CYCLE, FAINT, legend
from workers.reports.over_time import date_axis
from workers.reports.page import Picture, Rows, Section

_NAMED = 5
"""So many roles have a colour of their own."""
_OTHERS = "others"


def costs(found: Statement) -> Section:
    """The section: a bar for each day, a row for each role, a sentence for each unit."""
    said = " ".join(_sentence(line) for line in found.lines())
    return Section("Costs", said, [_by_day(found)], [_by_role(found)])


def _by_day(found: Statement) -> Picture:
    priced, roles = found.priced, list(found.parts("role"))
    unit = found.prices.currency if priced else "CPU hours"
    named = [*roles[:_NAMED], *([_OTHERS] if len(roles) > _NAMED else [])]
    days = sorted({one.day for one in found.usages})
    bars = {role: [0.0] * len(days) for role in named}
    for one in found.usages:
        role = one.role if one.role in bars else _OTHERS
        spent = Spent.of([one], found.prices)
        bars[role][days.index(one.day)] += spent.cost if priced else spent.cpu_hours

    def draw(axes: Axes) -> None:
        below = [0.0] * len(days)
        for role, colour in zip(named, [*CYCLE[:_NAMED], FAINT], strict=False):
            middles = [day / DAY + 0.5 for day in days]
            axes.bar(middles, bars[role], 0.8, below, color=colour, label=role)
            below = [low + high for low, high in zip(below, bars[role], strict=True)]
        date_axis(axes)
        axes.set_ylabel(unit)
        legend(axes)

    total = found.total.cost if priced else found.total.cpu_hours
    said = f"{money(total)} {unit} over {_counted(len(days), 'day')}; {roles[0]} takes the most."
    title = "Cost by day" if priced else "CPU by day"
    return Picture("costs", title, said, draw)


def _by_role(found: Statement) -> Rows:
    parts: Mapping[str, Spent] = {**found.parts("role"), "all": found.total}
    rows = [
        (
            role,
            f"{one.cpu_hours:,.3f}",
            f"{one.gib_hours:,.3f}",
            f"{one.gpu_hours:,.3f}" if one.gpu_hours else "-",
            money(one.cost) if found.priced else "-",
        )
        for role, one in parts.items()
    ]
    cost = f"Cost ({found.prices.currency})"
    return Rows("", "", ("Role", "CPU hours", "GiB hours", "GPU hours", cost), rows)


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
