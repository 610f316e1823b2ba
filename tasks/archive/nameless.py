"""Files without Series or Study Instance UID: taken as what lay together in one folder.

Some exports and anonymisers empty the UIDs. A made one (PS3.5 B.2: ``2.25.`` and 128 bits) follows
from the source, the folder, the patient id and the SOP class, so that the same files give the
same series again and a slice that comes later joins it. The certificate of such a volume says so.
"""

import hashlib
import posixpath

from tasks.archive.headers import Header
from tasks.archive.walk import Entry


def with_uids(header: Header, alias: str, entry: Entry) -> Header:
    """Return the header with Series and Study UIDs made up where it has none.

    Parameters
    ----------
    header : Header
    alias : str
        Of the source.
    entry : Entry
        Where the file lies: its folder, or its folder inside its archive file.
    """
    if header.series_uid and header.study_uid:
        return header
    folder = posixpath.dirname(entry.member or entry.path)
    place = [alias, entry.path if entry.member else "", folder, header.issuer, header.patient_id]
    study = header.study_uid or made_uid("study", *place, header.accession)
    series = header.series_uid or made_uid("series", *place, study, header.sop_class)
    return header._replace(study_uid=study, series_uid=series)


def made_uid(*parts: str) -> str:
    """Return a UID that follows from texts, and from nothing else."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
