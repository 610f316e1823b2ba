"""Explicit VR elements walked one by one, and stretches of them that come again in the next file.

The elements that a stretch of bytes holds depend on these bytes alone, when it begins where an
element begins. So where the same bytes stand again at such a place, the same elements follow.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

MAX_HEADS = 1 << 15
"""Different tags with VR that are remembered; a hostile file may bring any number of them."""

MAX_ELEMENTS = 2000
"""Elements of a header that is remembered: ten times a long one; comparing costs a time each."""

MAX_BYTES = 1 << 20
"""Bytes of a header that is remembered; longer ones hold tables that no two files share."""

NEW_LAYOUT = 40
"""Elements not as remembered in a file before what is remembered counts as another series'."""

REST_FILES = 16
"""Files walked without remembering when a new memory was of no use: two series take turns."""

UNDEFINED = 0xFFFFFFFF
"""The length that says: look for the end (PS3.5 7.1.2)."""

_HEAD = struct.Struct("<6sH").unpack_from
_LENGTH = struct.Struct("<I").unpack_from


class Odd(Exception):
    """Something in a header that only pydicom may interpret."""


class Stretch(NamedTuple):
    """Elements that followed each other in a file."""

    data: bytes
    """Their bytes."""
    starts: tuple[int, ...]
    """Where each of them begins in `data`."""
    wanted: tuple[tuple[int, int, bytes], ...]
    """(place in `starts`, tag, value) of those whose value is wanted."""
    values: dict[int, bytes]
    """The same, tag -> value."""

    def part(self, first: int, last: int) -> "Stretch":
        """Return the elements from `first` up to `last`, not included."""
        begin = self.starts[first]
        end = self.starts[last] if last < len(self.starts) else len(self.data)
        wanted = tuple((i - first, tag, v) for i, tag, v in self.wanted if first <= i < last)
        starts = tuple(start - begin for start in self.starts[first:last])
        values = {tag: value for _, tag, value in wanted}
        return Stretch(self.data[begin:end], starts, wanted, values)

    def same_elements(self, data: bytes, at: int) -> int:
        """Return how many of the elements stand unchanged at `at`."""
        low, high = 0, len(self.starts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if data.startswith(self.data[: self.starts[middle]], at):
                low = middle
            else:
                high = middle - 1
        return low


class Stretches:
    """A walk over explicit VR little endian elements (PS3.5 7.1.2) with a memory of the last ones.

    Parameters
    ----------
    kind_of : callable
        Says of a tag with VR (six bytes) what to do: one of the constants, or the tag itself when
        its value is wanted.
    skip_sequence : callable
        (data, where a sequence begins) -> where it ends.
    """

    SHORT, LONG, SEQUENCE, STOP, ODD = range(1, 6)
    """Skip a length of two bytes, one of four, items; end the walk; leave the file to pydicom."""

    def __init__(
        self, kind_of: Callable[[bytes], int], skip_sequence: Callable[[bytes, int], int]
    ) -> None:
        self._kind_of, self._skip_sequence = kind_of, skip_sequence
        self._kinds: dict[bytes, int] = {}
        self._known: dict[bytes, tuple] = {}
        self._inside: dict[bytes, tuple[Stretch, int]] = {}
        self._rest = 0
        self._useful = True

    def walk(self, data: bytes, at: int) -> tuple[dict[int, bytes], int]:
        """Return the wanted elements from `at` on, and where the walk stopped.

        Raises
        ------
        Odd, struct.error
            The file is for pydicom; it may also have ended too early.
        """
        if self._rest:
            self._rest -= 1
            return self._plain(data, at, None)
        if not self._inside:
            return self._anew(data, at)
        begin, values, alone = at, {}, 0
        known, short, odd = self._known, self.SHORT, self.ODD
        while True:
            key = data[at : at + 8]
            part, size, found, stretch = known.get(key) or self._meet(key)
            if part is None:
                if found > odd:
                    values[found] = data[at + 8 : at + size]
                    at += size
                elif found == short:
                    at += size
                else:
                    after = self._step(data, at, values)
                    if after is None:
                        self._useful = True
                        return values, at
                    at = after
            elif data.startswith(part, at):
                values.update(found)
                at += size
                continue
            else:
                # Comes again at the same place, shorter or as a single element.
                self._shorten(stretch, data, at)
            alone += 1
            if alone > NEW_LAYOUT:
                return self._anew(data, begin)

    def _anew(self, data: bytes, at: int) -> tuple[dict[int, bytes], int]:
        """Walk with no memory, and remember this file."""
        self._known.clear()
        self._inside.clear()
        if not self._useful:
            self._useful, self._rest = True, REST_FILES
            return self._plain(data, at, None)
        self._useful = False
        elements: list[tuple[int, int]] = []
        values, end = self._plain(data, at, elements)
        if 0 < len(elements) <= MAX_ELEMENTS and end - at <= MAX_BYTES:
            starts = tuple(start - at for start, _ in elements)
            wanted = []
            for place, (start, tag) in enumerate(elements):
                if tag > self.ODD:
                    wanted.append((place, tag, data[start + 8 : _after_short(data, start)]))
            # What was found twice counts as it stands last, as it does in `values`.
            self._remember(Stretch(data[at:end], starts, tuple(wanted), values.copy()))
        return values, end

    def _remember(self, stretch: Stretch) -> None:
        for place, start in enumerate(stretch.starts):
            self._inside[stretch.data[start : start + 8]] = (stretch, place)
        first = stretch.data[:8]
        del self._inside[first]
        self._known[first] = (stretch.data, len(stretch.data), stretch.values, stretch)

    def _meet(self, key: bytes) -> tuple:
        """Return what to do at the first eight bytes of an element that no stretch begins with.

        Returns
        -------
        tuple
            (bytes that may follow, their length, wanted values in them, the stretch), or for an
            element to be walked alone (None, its length, what to do with it, None).
        """
        if key in self._inside:
            stretch, place = self._inside[key]
            self._remember(stretch.part(0, place))
            self._remember(stretch.part(place, len(stretch.starts)))
            return self._known[key]
        if len(key) < 8:
            raise Odd
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
            self._inside.clear()
        kind = self._kinds.get(key[:6]) or self._learn(key[:6])
        found = self._known[key] = (None, 8 + (key[6] | key[7] << 8), kind, None)
        return found

    def _shorten(self, stretch: Stretch, data: bytes, at: int) -> None:
        """Forget the first element of a stretch that is another one at `at`.

        It is one that differs between the files of a series, and so walked alone from now on.
        """
        same, count = stretch.same_elements(data, at), len(stretch.starts)
        del self._known[stretch.data[:8]]
        different = stretch.starts[same]
        self._inside.pop(stretch.data[different : different + 8], None)
        if same + 1 < count:
            self._remember(stretch.part(same + 1, count))
        if same:
            self._remember(stretch.part(0, same))

    def _learn(self, head: bytes) -> int:
        if len(self._kinds) >= MAX_HEADS:
            self._kinds.clear()
        kind = self._kinds[head] = self._kind_of(head)
        return kind

    def _step(self, data: bytes, at: int, values: dict[int, bytes]) -> int | None:
        """Walk one element; return where it ends, or None where the walk stops."""
        head, length = _HEAD(data, at)
        kind = self._kinds.get(head) or self._learn(head)
        if kind == self.SHORT:
            return at + 8 + length
        if kind > self.ODD:
            start = at + 8
            values[kind] = data[start : start + length]
            return start + length
        if kind == self.LONG:
            (length,) = _LENGTH(data, at + 8)
            if length == UNDEFINED:
                raise Odd
            return at + 12 + length
        if kind == self.SEQUENCE:
            return self._skip_sequence(data, at)
        if kind == self.STOP:
            return None
        raise Odd

    def _plain(
        self, data: bytes, at: int, elements: list[tuple[int, int]] | None
    ) -> tuple[dict[int, bytes], int]:
        """Walk with no memory; note where elements begin and what they are."""
        kinds, short, odd, values = self._kinds, self.SHORT, self.ODD, {}
        while True:
            # As `_step`, in one loop: a file of a new series spends its time here.
            head, length = _HEAD(data, at)
            kind = kinds.get(head) or self._learn(head)
            if elements is not None:
                elements.append((at, kind))
            if kind == short:
                at += 8 + length
            elif kind > odd:
                start = at + 8
                at = start + length
                values[kind] = data[start:at]
            else:
                after = self._step(data, at, values)
                if after is None:
                    if elements is not None:
                        elements.pop()
                    return values, at
                at = after


def _after_short(data: bytes, at: int) -> int:
    return at + 8 + (data[at + 6] | data[at + 7] << 8)
