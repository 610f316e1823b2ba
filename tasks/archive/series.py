"""The files of one series to the frames of its volumes; no pixel is decoded here."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tasks.archive import codes
from tasks.archive.cut import Cutter
from tasks.archive.elements import quiet
from tasks.archive.frames import SECONDARY_CAPTURE, Frame, frames_of
from tasks.archive.groups import Group, facts_of, split
from tasks.archive.pixels import read_dataset
from tasks.archive.sources import FileRef, checked_digest, is_local, read_bytes
from tasks.errors import BadCase

VOLUMETRIC = frozenset({"CT", "MR", "PT"})
"""Modalities whose values are kept in real units, also when the series has one slice."""

PROJECTION = frozenset({"CR", "DX", "MG", "XA", "RF", "RG", "PX", "IO", "US", "IVUS", "XC"})
"""Modalities whose images are each a picture of their own, whatever position they state."""

CINE = PROJECTION | {"OT", "ES", "GM", "SM", "OP", "DG", ""}
"""Modalities whose frames without a place follow each other in time."""

READ_AHEAD = 8
"""Files whose digests are under way while others are parsed; fewer leave the helper idle."""

KEY_DIGITS = 8
"""Digits of its digest that name a picture among those of its series."""


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what pydicom raises on damaged elements into a reason that quotes nothing.

    Elements are converted when they are asked for, and messages about them quote values.
    """
    try:
        with quiet():
            yield
    except BadCase:
        raise
    except Exception as error:
        raise BadCase(
            "invalid_header", f"an element cannot be read ({type(error).__name__})"
        ) from None


def groups_of(files: Sequence[FileRef]) -> tuple[list[Group], tuple[str, ...]]:
    """Read the files of a series and group their frames; notes say what was left out."""
    with guarded():
        frames: list[Frame] = []
        cutter = Cutter()
        for name, data in _contents(files):
            frames += frames_of(read_dataset(data, cutter), name)
        modalities = {modality_of(frame) for frame in frames}
        if len(modalities) > 1:
            raise BadCase("mixed_modality", f"{len(modalities)} modalities in one series")
        frames, notes = _without_strays(frames, modality := modalities.pop())
        return _grouped(frames, modality), notes


def _contents(files: Sequence[FileRef]) -> Iterator[tuple[str, bytes]]:
    """Give each different content once: an archive often holds one instance twice."""
    seen = set()
    for digest, data in _read_ahead(_each_once(files)):
        if digest not in seen:
            seen.add(digest)
            yield digest, data


def _each_once(files: Sequence[FileRef]) -> list[FileRef]:
    """Leave out files whose digest says that they need not be read again."""
    kept: dict[str, FileRef] = {}
    for number, ref in enumerate(files):
        kept.setdefault(ref.digest or f"unknown {number}", ref)
    return list(kept.values())


def _read_ahead(files: Sequence[FileRef]) -> Iterator[tuple[str, bytes]]:
    """Read the next files while the last are parsed; a helper digests, which needs no Python.

    Files of this machine are read here: a system call is short, and a helper that makes several
    waits each time until parsing lets it have the interpreter.  What comes from afar or is packed
    is read by the helper, too.
    """
    if len(files) < 2:
        yield from map(_read, files)
        return
    under_way: deque[Future[tuple[str, bytes]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="series") as helper:
        try:
            for ref in files:
                if is_local(ref):
                    under_way.append(helper.submit(_digested, ref, _content(ref)))
                else:
                    under_way.append(helper.submit(_read, ref))
                if len(under_way) > READ_AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            helper.shutdown(cancel_futures=True)


def _read(ref: FileRef) -> tuple[str, bytes]:
    return _digested(ref, _content(ref))


def _content(ref: FileRef) -> bytes:
    return read_bytes(ref, check_digest=False)


def _digested(ref: FileRef, data: bytes) -> tuple[str, bytes]:
    return checked_digest(ref, data), data


def modality_of(frame: Frame) -> str:
    """Return the modality as a term of the standard: it is told in messages and kept in stores."""
    return codes.term(str(frame.source.dataset.get("Modality") or "OT"), codes.MODALITIES) or "OT"


def _without_strays(frames: list[Frame], modality: str) -> tuple[list[Frame], tuple[str, ...]]:
    """Keep scouts and screen shots out of volumes; a series of nothing else is refused."""
    scouts = [frame for frame in frames if "LOCALIZER" in frame.image_type]
    shots = [
        frame
        for frame in frames
        if modality in VOLUMETRIC
        and str(frame.source.dataset.get("SOPClassUID") or "").startswith(SECONDARY_CAPTURE)
    ]
    left = {id(frame) for frame in (*scouts, *shots)}
    kept = [frame for frame in frames if id(frame) not in left]
    if not kept and scouts:
        raise BadCase("localizer", "holds localizer images, which are not part of a volume")
    if not kept:
        raise BadCase(
            "secondary_capture", f"{len(shots)} pictures of a screen in a {modality} series"
        )
    told = ((len(scouts), "localizer images left out"), (len(shots), "screen captures left out"))
    notes = tuple(f"{count} {what}" for count, what in told if count)
    if any(not frame.source.dataset.get("SeriesInstanceUID") for frame in kept):
        notes += ("no UIDs in the files: taken as one series because they lay in one folder",)
    return kept, notes


def _grouped(frames: list[Frame], modality: str) -> list[Group]:
    placed = all(frame.placed for frame in frames)
    enhanced = any("PerFrameFunctionalGroupsSequence" in f.source.dataset for f in frames)
    if placed and (modality not in PROJECTION or enhanced):
        return split(frames)
    if modality in VOLUMETRIC and len(frames) > 1:
        raise BadCase("missing_position", "slices without position or orientation")
    if modality not in CINE and any(frame.index for frame in frames):
        raise BadCase(
            "needs_multiframe", f"{modality} frames in one file without a position for each"
        )
    files: dict[int, list[Frame]] = {}
    for frame in frames:
        files.setdefault(id(frame.source), []).append(frame)
    if len(files) == 1:
        return [Group("", frames, picture=True, facts=facts_of(frames))]
    named = [(f"image={own[0].source.name[:KEY_DIGITS]}", own) for own in files.values()]
    return [
        Group(key, own, picture=True, facts=facts_of(own))
        for key, own in sorted(named, key=lambda item: item[0])
    ]
