"""What lint has to say, and how it is shown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.fitted import Column, FittedTable
from depthwise.escaping import counted

# A warning: the results are likely to suffer. A note: time or memory is spent for nothing, or a
# limit that the task may not mind.
Severity = Literal["warning", "note"]

FOUND_COLUMNS = (Column("", kind="name", most=40), Column("", kind="text", least=20))
REASON_COLUMNS = (Column("", kind="word"), Column("", kind="text"))
FLOOD = 3  # of more findings by one rule, those that say the same become one


@dataclass(frozen=True)
class Finding:
    """One mistake in a network's design.

    Attributes:
        rule: The name of the rule that found it.
        layer: Where: the path of a module.
        what: What was found.
        why: Why it matters.
        advice: What to do.
        severity: "warning" where results are likely to suffer, else "note".
        also: The paths of further layers where exactly the same holds.
    """

    rule: str
    layer: str
    what: str
    why: str
    advice: str
    severity: Severity
    also: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return the fields in types that JSON has."""
        return {**asdict(self), "also": list(self.also)}


def merge_equal(findings: Sequence[Finding]) -> list[Finding]:
    """Return warnings before notes; where a rule finds much, those that say the same are one."""
    by_rule = Counter(finding.rule for finding in findings)
    alike: dict[Finding, list[str]] = {}
    for finding in findings:
        few = by_rule[finding.rule] <= FLOOD
        alike.setdefault(finding if few else replace(finding, layer=""), []).append(finding.layer)
    merged = [
        replace(finding, layer=first, also=tuple(others))
        for finding, (first, *others) in alike.items()
    ]
    return sorted(merged, key=lambda finding: finding.severity == "note")


def lint_table(findings: Sequence[Finding]) -> RenderableType:
    """Return the findings for a person to read: by rule, a row a layer, then why and what to do."""
    if not findings:
        return Text("nothing found")
    parts: list[RenderableType] = []
    for (severity, rule, why, advice), group in groupby(
        findings, key=lambda f: (f.severity, f.rule, f.why, f.advice)
    ):
        style = "bold yellow" if severity == "warning" else "bold"
        rows = [(finding.layer, _what(finding)) for finding in group]
        reasons = [("why", why), ("do", advice)]
        parts += [
            Text(f"{severity}: {rule}", style=style),
            FittedTable(FOUND_COLUMNS, rows),
            FittedTable(REASON_COLUMNS, reasons),
            "",
        ]
    warnings = sum(finding.severity == "warning" for finding in findings)
    notes = len(findings) - warnings
    return Group(*parts, Text(f"{counted(warnings, 'warning')}, {counted(notes, 'note')}"))


def _what(finding: Finding) -> str:
    more = len(finding.also)
    return (
        f"{finding.what}; so {'is' if more == 1 else 'are'} {more} more" if more else finding.what
    )
