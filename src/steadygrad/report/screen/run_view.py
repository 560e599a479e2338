"""One run on one screen: the verdict, the numbers of now, pictures, worst tensors, newest findings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from steadygrad.records import Finding
from steadygrad.report.chapters import chapters
from steadygrad.report.findings import STYLES
from steadygrad.report.screen.numbers import acted, now
from steadygrad.report.screen.pictures import loss_picture, norm_picture
from steadygrad.report.screen.plan import Plan, share_out
from steadygrad.report.screen.strain import most_strained
from steadygrad.report.screen.tensor_table import TensorTable
from steadygrad.report.verdict import verdict
from steadygrad.report.vitals import take_vitals
from steadygrad.report.wording import plural, visible
from steadygrad.runfile import Run

_MOST_VERDICT_LINES = 2


class RunView:
    """A run as it is now; as tall as its console, or as it needs to be where that has no height.

    Args:
        run: the run.
        now_s: seconds since the epoch.
        optimizer: whose steps are drawn, where there are several.
        note: in place of the verdict: why the file can't be read any more.
    """

    def __init__(self, run: Run, now_s: float, optimizer: int = 0, note: str = "") -> None:
        self._run, self._now_s, self._note = run, now_s, note
        self._vitals = take_vitals(run)
        mine = [newest.optimizer for newest in self._vitals.newest]
        self._optimizer = mine[optimizer % len(mine)] if mine else 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield head, pictures and lists."""
        del console
        run, rows = self._run, self._run.optimizer == self._optimizer
        head = list(self._head(options.max_width))
        yield from head
        if not rows.any():
            return
        left = None if options.height is None else options.height - len(head)
        has_loss = bool((rows & run.loss_logged).any())
        plan = share_out(options.max_width, left, has_loss=has_loss, findings=len(run.findings))
        pictures = [Group(*norm_picture(run, rows, plan.picture))] if plan.picture else []
        if plan.loss:
            pictures.insert(0, Group(*loss_picture(run, rows, plan.picture)))
        worst = most_strained(run, self._optimizer, plan.tensors)
        lists: list[RenderableType] = [TensorTable(worst)] if plan.tensors else []
        if plan.findings:
            lists.append(Group(*_findings(run.findings, plan.findings)))
        yield from _beside(pictures, plan)
        yield from _beside(lists, plan)

    def _head(self, width: int) -> Iterator[Text]:
        run, info = self._run, self._run.info
        told = verdict(self._vitals.facts, chapters(run.findings), run.incidents)
        how = f"{info.mode}, policy {info.policy}" if info.policy else info.mode
        rank = f"rank {info.rank} of {info.world_size}" if info.world_size > 1 else ""
        facts = [how, info.model, ", ".join(info.optimizers), rank]
        name = Text(visible(info.name), style="bold")
        yield _line(name.append("  " + ", ".join(visible(fact) for fact in facts if fact), "not bold dim"))
        sentence = visible(self._note or told.sentence)
        for line in textwrap.wrap(
            sentence, max(width, 2), max_lines=_MOST_VERDICT_LINES, placeholder=" …" if width > 2 else ""
        ):
            yield _line(Text(line, style=STYLES.get(told.state, "bold")))
        yield _line(now(run, self._vitals, self._optimizer, self._now_s, width))
        yield _line(acted(self._vitals, width))
        yield _line(Text("-" * width, style="dim"))


def _findings(findings: tuple[Finding, ...], most: int) -> Iterator[RenderableType]:
    heading = Text("newest findings", style="bold")
    yield _line(heading.append(f"  of {plural(len(findings), 'finding')}", "not bold dim"))
    shown = findings[-most:]
    width = max(len(f"{finding.step:,}") for finding in shown)
    for finding in reversed(shown):
        line = Text(f"step {finding.step:>{width},}  ", style="dim")
        line.append(f"{finding.severity:<8}", style=f"not dim {STYLES[finding.severity]}")
        yield _line(line.append(f" {visible(finding.summary)}", style="not dim"))


def _beside(parts: Sequence[RenderableType], plan: Plan) -> Iterator[RenderableType]:
    if not plan.wide:
        yield from parts
        return
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(ratio=1)
    for left, right in zip_longest(parts[::2], parts[1::2], fillvalue=Text()):
        table.add_row(left, right)
    yield table


def _line(text: Text) -> Text:
    """One line, cut at the edge: a frame that wraps would push the rest out of sight."""
    text.no_wrap, text.overflow = True, "crop"
    return text
