"""What an intake did, in numbers and in sentences."""

from collections.abc import Mapping
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

    def lines(self) -> list[str]:
        """Return sentences for whoever runs the archive."""
        refused = sum((self.quarantined or {}).values())
        lines = [
            f"{_count(self.seen, 'file')} seen: {self.instances} taken in, {self.unchanged} "
            f"unchanged since last time, {self.duplicates} duplicates, {self.labels} masks, "
            f"{self.ignored} ignored, {refused} quarantined."
        ]
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
            lines.append(f"Quarantined, {reason.replace('_', ' ')}: {_count(n, 'file')}.")
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


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
