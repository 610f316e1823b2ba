"""What an intake did, in numbers and in sentences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class IntakeReport:
    """Counts of one intake; every file the walk saw is in exactly one of the first six."""

    instances: int = 0
    """Files taken in: image instances, NIfTI volumes, tables."""
    duplicates: int = 0
    """Files that hold what another file holds already."""
    labels: int = 0
    """Mask files."""
    ignored: int = 0
    """Files that are no images and never would be: DICOMDIR, text, system files."""
    unchanged: int = 0
    """Files known from before, with the outcome they had."""
    quarantined: Mapping[str, int] | None = None
    """Files that could not be used, by reason."""
    seen: int = 0
    links: int = 0
    """Symbolic links, which are not followed."""
    missing: int = 0
    """Files known from before that are no longer there."""
    still_quarantined: int = 0
    """Of the unchanged files, those that were quarantined before."""
    displaced: int = 0
    """Files taken in by an earlier intake that are in quarantine now: another one has their SOP
    instance, and which of the two is taken in does not hang on which came first."""
    series_new: int = 0
    series_changed: int = 0
    rows: int = 0
    """Table rows that are cases now and were not."""
    rows_refused: int = 0
    rows_removed: int = 0
    """Rows that the table no longer holds."""
    columns_left_out: tuple[str, ...] = ()
    label_set: str | None = None

    @property
    def accounted(self) -> int:
        """Files with an outcome; equals `seen`."""
        return (
            self.instances
            + self.duplicates
            + self.labels
            + self.ignored
            + self.unchanged
            + sum((self.quarantined or {}).values())
        )

    def balance(self) -> str:
        """Return the sum that leaves no file out: what was given and what became of it."""
        outcomes = (
            (self.instances, "taken in"),
            (sum((self.quarantined or {}).values()), "in quarantine"),
            (self.unchanged, "known and unchanged"),
            (self.duplicates, "given twice"),
            (self.labels, "as masks"),
            (self.ignored, "left out (text, indices, system files)"),
        )
        # What is nought is not said, but for what everybody looks for.
        told = [f"{n} {what}" for n, what in outcomes if n or what in ("taken in", "in quarantine")]
        return f"{_count(self.seen, 'file')} given = {' + '.join(told)}."

    def lines(self) -> list[str]:
        """Return sentences for whoever runs the archive."""
        lines = [self.balance()]
        if lost := self.seen - self.accounted:
            lines.append(f"{_count(lost, 'file')} NOT ACCOUNTED FOR: please report this error.")
        if self.series_new or self.series_changed:
            lines.append(
                f"{self.series_new} new series, {self.series_changed} series with new content."
            )
        if self.rows or self.rows_refused or self.rows_removed:
            lines.append(
                f"{self.rows} new table rows, {self.rows_refused} refused, "
                f"{self.rows_removed} no longer in the table."
            )
        if self.columns_left_out:
            lines.append(
                "Columns left out, since they may name somebody (name them in a mapping to keep "
                f"them): {', '.join(self.columns_left_out)}."
            )
        for reason, n in sorted((self.quarantined or {}).items(), key=lambda item: -item[1]):
            lines.append(f"In quarantine, {reason.replace('_', ' ')}: {_count(n, 'file')}.")
        if self.displaced:
            lines.append(
                f"{_count(self.displaced, 'file')} taken in before moved to quarantine: others "
                "hold the same SOP instances with other content."
            )
        if self.still_quarantined:
            lines.append(
                f"{_count(self.still_quarantined, 'file')} still in quarantine from before: read "
                "again with --retry."
            )
        if self.missing:
            lines.append(
                f"{_count(self.missing, 'file')} known from before no longer there: is the place "
                "mounted completely? Their cases stay in the catalog."
            )
        if self.links:
            lines.append(f"{_count(self.links, 'link')} not followed.")
        return lines


def in_all(reports: Sequence[IntakeReport]) -> IntakeReport:
    """Return the counts of files of several intakes together."""
    names = ("displaced", "instances", "duplicates", "labels", "ignored", "unchanged", "seen")
    sums = {name: sum(getattr(report, name) for report in reports) for name in names}
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.quarantined or {})
    return IntakeReport(**sums, quarantined=dict(reasons))


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
