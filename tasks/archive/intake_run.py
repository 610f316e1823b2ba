"""One intake run: reads what is new or changed, and writes it in batches that survive a kill.

A file is first recorded with a time that never matches, then its facts go into the catalog, then
its real time and outcome are recorded: killed anywhere between, the next intake reads it again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from sqlalchemy import Engine, select

from tasks.archive.catalog import drop_instances, upsert_series
from tasks.archive.contents import Content, with_contents
from tasks.archive.database import LOOKUP_ROWS, chunks, writing
from tasks.archive.intake_items import (
    Image,
    Item,
    as_recorded,
    conflict,
    final_outcome,
    series_rows,
)
from tasks.archive.known import KnownFiles, files_of
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.quarantine import clear_quarantine, insert_quarantine, quarantine_values
from tasks.archive.report import IntakeReport
from tasks.archive.scan import Scanner
from tasks.archive.sources import MAPPING_NAME, Source
from tasks.archive.tables import series as series_table
from tasks.archive.vault import list_sources, recall, remember
from tasks.archive.vault_files import FileSeen, KnownFile, finish_files, put_files
from tasks.archive.walk import Entry, WalkNotes, walk
from tasks.errors import BadCase

STAGE = "ingest"

BATCH_FILES = 2000
"""Files a transaction: large enough to spread its cost, small enough to lose little when killed."""

KEYS_KEPT = 4096
"""Pseudonyms of patients, studies and series that stay in memory while their files are read."""

NOT_FINISHED_NS = -1
"""Modification time recorded until a file's facts are in the catalog: no file has it."""

_NO_DIGEST = bytes(16)


class Intake:
    """One run over one source: what is known, the open batch and the counts."""

    def __init__(
        self,
        source: Source,
        catalog: Engine,
        vault: Engine,
        names: Pseudonymiser,
        *,
        retry: bool = False,
        on_progress: Callable[[int, int | None], object] | None = None,
    ) -> None:
        self.source, self.catalog, self.vault, self.names = source, catalog, vault, names
        self.known = KnownFiles(vault, source.alias)
        self.counts: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.identities: dict[tuple[str, str], str] = {}
        self._remembered: set[tuple[str, str]] = set()
        self.scanner = Scanner()
        # Files of a series share all but one; besides, each HMAC gives the interpreter away.
        self.key = lru_cache(KEYS_KEPT)(names.key)
        self.patient_key = lru_cache(KEYS_KEPT)(names.patient)
        self._retry, self._on_progress = retry, on_progress
        self._batch: list[Item] = []
        self._notes = WalkNotes()
        self._apart: dict[str, set[bytes]] = {}
        self.reread: set[tuple[str, str]] = set()
        """Files to read although they are unchanged, because what is said of them changed."""

    def take(self, classify: Callable[[Entry, bytes], Item]) -> None:
        """Read what is new or changed and hand it to `classify`, which may raise BadCase."""
        # A mapping is walked line by line, whatever was once recorded of the file itself.
        for path in (MAPPING_NAME, *(path for path, member in self.reread if not member)):
            folder, _, name = path.rpartition("/")
            self._apart.setdefault(folder, set()).add(name.encode("utf-8", "surrogateescape"))
        with self.known.walking():
            for entry, (known, again), content in with_contents(self._changed()):
                self._batch.append(self._read(entry, known, again, content, classify))
                if len(self._batch) >= BATCH_FILES:
                    self.flush()
        self.flush()

    def _changed(self) -> Iterator[tuple[Entry, tuple[KnownFile | None, bool]]]:
        """Yield files to read, what is known of them, and whether they are to be tried again."""
        for entry in walk(self.source, self._notes, self._settled):
            self.counts["read"] += 1
            known = self.known.get(entry.path, entry.member)
            self.counts["known"] += known is not None
            again = self._retry and known is not None and known.outcome == "quarantine"
            again = again or (entry.path, entry.member) in self.reread
            if known and not again and (entry.size, entry.mtime_ns) == (known.size, known.mtime_ns):
                self._count_unchanged(known)
            else:
                yield entry, (known, again)

    def _settled(self, folder: str) -> Mapping[bytes, tuple[int, int]]:
        # Once a folder, so that also where nothing is read somebody sees that work goes on.
        self._progress()
        settled, apart = self.known.settled(folder), self._apart.get(folder)
        if not apart:
            return settled
        return {name: state for name, state in settled.items() if name not in apart}

    def _progress(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._seen(), None)

    def _seen(self) -> int:
        return self.counts["read"] + self._notes.settled

    def _read(
        self,
        entry: Entry,
        known: KnownFile | None,
        again: bool,
        content: Content,
        classify: Callable,
    ) -> Item:
        digest = _NO_DIGEST
        try:
            if entry.problem is not None:
                raise entry.problem
            data, digest = content()
            unfinished = known is not None and known.mtime_ns == NOT_FINISHED_NS
            if known and known.digest == digest and not again and not unfinished:
                # Touched or copied, not changed.
                return Item(entry, known, digest, "unchanged")
            item = classify(entry, data)
            return Item(entry, known, digest, item.outcome, item.problem, item.image)
        except BadCase as problem:
            return Item(entry, known, digest, "quarantine", problem)
        except (OSError, MemoryError) as error:
            problem = BadCase("unreadable_file", f"reading it failed: {type(error).__name__}")
            return Item(entry, known, digest, "quarantine", problem)

    def flush(self) -> None:
        """Write the open batch: vault (unfinished), catalog, vault (finished)."""
        batch, self._batch = self._batch, []
        self._progress()
        if not batch:
            return
        locators = self._record(batch)
        self._forget_former(batch, locators)
        refused, kept = self._write_catalog(batch, locators)
        fresh = dict(self.identities)
        remember(self.vault, ((kind, key, value) for (kind, key), value in fresh.items()))
        self._remembered |= fresh.keys()
        self.identities.clear()
        final = []
        problems: list[tuple[int, BadCase]] = []
        for item, locator in zip(batch, locators, strict=True):
            outcome, problem = final_outcome(item, locator, refused, kept)
            if outcome == "unchanged":
                self._count_unchanged(item.known)
            elif problem is not None:
                problems.append((locator, problem))
                self.quarantined[problem.reason] += 1
            else:
                self.counts[outcome] += 1
            outcome = item.known.outcome if outcome == "unchanged" else outcome
            final.append((locator, item.entry.mtime_ns, outcome))
        self._quarantine(self.source.alias, problems)
        # Before the batch counts as finished: a killed intake does it again.
        if others := refused - set(locators):
            self._mark_losers(others)
        finish_files(self.vault, final)

    def identify(self, kind: str, key: str, value: str) -> None:
        """Keep the way back from a key, written with the batch."""
        if (kind, key) not in self._remembered:
            self.identities[kind, key] = value

    def _record(self, batch: list[Item]) -> list[int]:
        seen = [
            FileSeen(e.path, e.member, e.size, NOT_FINISHED_NS, item.digest, as_recorded(item))
            for item in batch
            for e in (item.entry,)
        ]
        return put_files(self.vault, self.source.alias, seen)

    def _forget_former(self, batch: list[Item], locators: list[int]) -> None:
        former = [
            (item.known.outcome, locator)
            for item, locator in zip(batch, locators, strict=True)
            if item.known is not None and item.outcome != "unchanged"
        ]
        held = [locator for outcome, locator in former if outcome == "instance"]
        if held:
            drop_instances(self.catalog, held)
        if former:
            clear_quarantine(self.catalog, stage=STAGE, locators=[n for _, n in former])

    def _write_catalog(
        self, batch: list[Item], locators: list[int]
    ) -> tuple[set[int], frozenset[int]]:
        """Upsert the batch's images; return the locators refused and those that are instances."""
        images = [
            (item.image, item.digest, locator)
            for item, locator in zip(batch, locators, strict=True)
            if item.image is not None
        ]
        if not images:
            return set(), frozenset()
        owners = self._owners({image.study_key for image, _, _ in images})
        images = [
            (self._adopted(image, owners.get(image.study_key)), *rest) for image, *rest in images
        ]
        counts = upsert_series(self.catalog, series_rows(images, self.source.alias))
        self.counts["series_new"] += counts.new
        self.counts["series_changed"] += counts.changed
        return set(counts.refused), counts.kept

    def _owners(self, study_keys: set[str]) -> dict[str, str]:
        """Return study key -> patient key of the studies the catalog knows."""
        table, found = series_table.c, {}
        with self.catalog.connect() as connection:
            for chunk in chunks(sorted(study_keys), LOOKUP_ROWS):
                query = select(table.study_key, table.patient_key).where(table.study_key.in_(chunk))
                found.update((study, patient) for study, patient in connection.execute(query))
        return found

    def _adopted(self, image: Image, owner: str | None) -> Image:
        """Keep the patient of a study that came in before, under another alias.

        Without an issuer the alias is part of a patient's key, so the same study from a place with
        another alias would seem to belong to somebody else.
        """
        if owner is None or owner == image.patient_key or not image.patient_id:
            return image
        if recall(self.vault, "patient", owner) != image.patient_id:
            return image
        return replace(image, patient_key=owner)

    def _quarantine(self, alias: str, problems: list[tuple[int, BadCase]]) -> None:
        rows = [
            quarantine_values(
                stage=STAGE,
                reason=problem.reason,
                detail=problem.detail,
                source=alias,
                locator=locator,
            )
            for locator, problem in problems
        ]
        if rows:
            with writing(self.catalog) as connection:
                insert_quarantine(connection, rows)

    def _mark_losers(self, locators: set[int]) -> None:
        """Files of earlier batches that lost their SOP instance are quarantined files now."""
        for alias in (source.alias for source in list_sources(self.vault)):
            lost = files_of(self.vault, alias, locators)
            self._quarantine(alias, [(locator, conflict()) for locator in lost])
            seen = [replace(one, outcome="quarantine") for one in lost.values()]
            put_files(self.vault, alias, seen)
            # Counted as taken in when their batch was written, if that was in this run.
            ours = alias == self.source.alias
            fresh = sum(ours and locator > self.known.newest for locator in lost)
            self.counts["instance"] -= fresh
            self.quarantined[conflict().reason] += fresh
            self.counts["displaced"] += len(lost) - fresh

    def _count_unchanged(self, known: KnownFile) -> None:
        self.counts["unchanged"] += 1
        self.counts["still_quarantined"] += known.outcome == "quarantine"

    def report(self, **more: object) -> IntakeReport:
        """Return the counts of the run."""
        count = self.counts
        return IntakeReport(
            instances=count["instance"],
            duplicates=count["duplicate"],
            labels=count["label"],
            ignored=count["ignored"],
            unchanged=count["unchanged"] + self._notes.settled,
            quarantined=dict(sorted(self.quarantined.items())),
            seen=self._seen(),
            links=self._notes.links,
            missing=self.known.count - count["known"] - self._notes.settled,
            still_quarantined=count["still_quarantined"],
            series_new=count["series_new"],
            series_changed=count["series_changed"],
            displaced=count["displaced"],
            **more,
        )
