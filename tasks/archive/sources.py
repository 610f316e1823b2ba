"""Where an archive's files are: a source is a place with an alias, a file reference one file in it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A place that holds studies: folder, archive file, Decathlon folder or table."""

    alias: str
    kind: str
    location: str


@dataclass(frozen=True)
class FileRef:
    """One file: absolute path, member inside a zip or tar (else None), digest and size in bytes."""

    path: str
    member: str | None
    digest: str
    size: int
