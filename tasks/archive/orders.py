"""Work orders: what a worker needs for one part, sealed, because it names files of patients.

Workers open neither catalog nor vault, and Dask and Prefect write arguments to logs and databases.
"""

import json
import os
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tasks.archive.sources import FileRef
from tasks.errors import RadloopError

FORMAT_VERSION = 6
"""First byte of a sealed order."""

WORKER_KEY_BYTES = 32
"""AES-256."""

NONCE_BYTES = 12
"""The size NIST SP 800-38D recommends for GCM; random ones are safe for 2**32 orders a key."""

MAX_ORDER_BYTES = 256 << 20
"""An order that inflates beyond this is refused: a part has at most some 100,000 files."""


@dataclass(frozen=True)
class OrderSeries:
    """One channel of a case: its files in order, and its modality."""

    channel: str
    files: tuple[FileRef, ...]
    modality: str | None = None


@dataclass(frozen=True)
class OrderCase:
    """One case of an order: its files in order, its mask file for label parts, its modality."""

    case_id: str
    kind: str
    files: tuple[FileRef, ...]
    """Of a case of several series those of its reference."""
    mask: FileRef | None
    modality: str | None = None
    """As catalogued: NIfTI, NRRD, MetaImage and pictures do not state theirs."""
    series: tuple[OrderSeries, ...] = ()
    """Of a case of several series all of them, the reference first."""
    numbers: tuple[tuple[int, int], ...] | None = None
    """What the values in the mask's file mean, where the scenario says so."""
    boxes: str | None = None
    """Of a detection, what its label row says (`tasks.labels.boxes`)."""
    classes: tuple[str, ...] = ()
    """Classes of the boxes, or of the mask's values from 1, in the order of their numbers."""
    named: str | None = None
    """How the segments of the mask's file are told by name (`tasks.labels.named`), if they are."""

    @property
    def all_files(self) -> tuple[FileRef, ...]:
        """Every file that the images of the case lie in."""
        return tuple(ref for one in self.series for ref in one.files) or self.files

    @property
    def every_file(self) -> tuple[FileRef, ...]:
        """Those of the images, and that of the mask where there is one."""
        return self.all_files if self.mask is None else (*self.all_files, self.mask)


@dataclass(frozen=True)
class WorkOrder:
    """What a worker needs for one part."""

    part_id: str
    recipe_id: str
    cases: tuple[OrderCase, ...]


def seal(order: WorkOrder, worker_key: bytes) -> bytes:
    """Return an order as bytes that only holders of the worker key can read.

    Layout: version (1 byte), length of the part id (1 byte), part id, nonce (12 bytes), AES-GCM
    ciphertext of zlib-compressed JSON. All before the nonce is authenticated with it.

    Raises
    ------
    ValueError
        The key does not have 32 bytes.
    """
    head = bytes([FORMAT_VERSION, len(order.part_id.encode())]) + order.part_id.encode()
    nonce = os.urandom(NONCE_BYTES)
    text = json.dumps(_packed(order), separators=(",", ":")).encode("utf-8", "surrogatepass")
    return head + nonce + _cipher(worker_key).encrypt(nonce, zlib.compress(text, 6), head)


def unseal(token: bytes, worker_key: bytes) -> WorkOrder:
    """Return the order in a token.

    Raises
    ------
    RadloopError
        The token is damaged, sealed under another key, or of another version.
    ValueError
        The key does not have 32 bytes.
    """
    cipher = _cipher(worker_key)
    if not token or token[0] != FORMAT_VERSION:
        version = token[0] if token else "none"
        raise RadloopError(
            f"The work order has format {version}, this worker reads {FORMAT_VERSION}: run the "
            "same release of radloop on the coordinator and on the workers."
        )
    start = 2 + (token[1] if len(token) > 1 else 0)
    head, nonce, sealed = token[:start], token[start : start + NONCE_BYTES], token[start:]
    try:
        packed = zlib.decompressobj()
        text = packed.decompress(cipher.decrypt(nonce, sealed[NONCE_BYTES:], head), MAX_ORDER_BYTES)
    except (InvalidTag, ValueError) as error:
        raise RadloopError(
            "The work order cannot be opened: it was changed on its way, or the worker's "
            "RADLOOP_WORKER_KEY is not the coordinator's; give both the same key."
        ) from error
    if not packed.eof:
        raise RadloopError(
            f"The work order inflates beyond {MAX_ORDER_BYTES} bytes: plan smaller parts."
        )
    return _unpacked(json.loads(text))


def _cipher(worker_key: bytes) -> AESGCM:
    if len(worker_key) != WORKER_KEY_BYTES:
        raise ValueError(
            f"The worker key has {len(worker_key)} bytes, AES-256 needs {WORKER_KEY_BYTES}: make "
            "one with os.urandom(32)."
        )
    return AESGCM(worker_key)


def _packed(order: WorkOrder) -> dict:
    """Return an order as JSON values, with every folder named once."""
    folders: dict[str, int] = {}

    def file(ref: FileRef | None) -> list | None:
        if ref is None:
            return None
        folder, slash, name = ref.path.rpartition("/")
        number = folders.setdefault(folder + slash, len(folders))
        return [number, name, ref.member, ref.digest, ref.size]

    def series(one: OrderSeries) -> list:
        return [one.channel, [file(ref) for ref in one.files], one.modality]

    cases = [
        # The files of a case of several series are those of the first of them.
        [c.case_id, c.kind, [] if c.series else [file(ref) for ref in c.files], file(c.mask),
         c.modality, [series(one) for one in c.series], c.numbers, c.boxes, c.classes,
         c.named]
        for c in order.cases
    ]  # fmt: skip
    return {
        "part": order.part_id,
        "recipe": order.recipe_id,
        "folders": list(folders),
        "cases": cases,
    }


def _unpacked(values: dict) -> WorkOrder:
    folders = values["folders"]

    def file(item: list | None) -> FileRef | None:
        if item is None:
            return None
        number, name, member, digest, size = item
        return FileRef(folders[number] + name, member, digest, size)

    def case(item: list) -> OrderCase:
        case_id, kind, items, mask, modality, several, numbers, boxes, classes, named = item
        series = tuple(
            OrderSeries(channel, tuple(file(one) for one in files), its)
            for channel, files, its in several
        )
        files = series[0].files if series else tuple(file(one) for one in items)
        told = None if numbers is None else tuple(map(tuple, numbers))
        labels = (told, boxes, tuple(classes), named)
        return OrderCase(case_id, kind, files, file(mask), modality, series, *labels)

    cases = tuple(case(item) for item in values["cases"])
    return WorkOrder(values["part"], values["recipe"], cases)
