"""Leases: one run at a time per scenario and per store, and a number that fences out the last one.

A lease has an owner, a heartbeat and a fencing number that only grows. Whoever finds a lease
without a heartbeat for its time to live may take it over; the former owner's number is then too
small, and what it still tries to commit is refused (Kleppmann, "How to do distributed locking").
"""

import time

from sqlalchemy import Connection, Engine, func, or_, select, update

from tasks.archive.database import insert, writing
from tasks.archive.tables import leases
from tasks.errors import LeaseHeld

CLOCK_SLACK_S = 86_400.0
"""A heartbeat further ahead than this comes from a clock that was set back: the lease is dead."""


def acquire_lease(catalog: Engine, name: str, owner: str, ttl_s: float = 60.0) -> int:
    """Take a lease and return its fencing number.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    name : str
        What is leased, e.g. ``scenario/chest-xray``.
    owner : str
        Who takes it; one value per run, because an owner cannot take its own lease again.
    ttl_s : float
        Seconds without a heartbeat after which another owner may take it over.

    Raises
    ------
    LeaseHeld
        Another owner holds it and its heart beats.
    """
    with writing(catalog) as connection:
        now = _clock(connection)
        statement = insert(connection, leases).values(
            name=name, owner=owner, fence=1, heartbeat=now, ttl_s=ttl_s
        )
        # One statement decides, so of several owners exactly one gets a row back.
        statement = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "owner": owner,
                "fence": leases.c.fence + 1,
                "heartbeat": now,
                "ttl_s": ttl_s,
            },
            where=or_(
                leases.c.owner.is_(None),
                leases.c.heartbeat + leases.c.ttl_s < now,
                leases.c.heartbeat > now + CLOCK_SLACK_S,
            ),
        ).returning(leases.c.fence)
        fence = connection.execute(statement).scalar()
        if fence is not None:
            return fence
        held = connection.execute(select(leases).filter_by(name=name)).one()
    raise LeaseHeld(
        f"{name} is held by {held.owner}, whose heart beat {max(now - held.heartbeat, 0):.0f} s "
        f"ago (limit {held.ttl_s:.0f} s): wait for it to end, or until the limit has passed."
    )


def lease_holder(catalog: Engine, name: str) -> tuple[str, int] | None:
    """Return (owner, fencing number) of whoever holds a lease, or None."""
    query = select(leases.c.owner, leases.c.fence).filter_by(name=name)
    with catalog.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None or row.owner is None else (row.owner, row.fence)


def live_leases(catalog: Engine) -> tuple[str, ...]:
    """Return the names of the leases that somebody holds whose heart beats, sorted."""
    with catalog.connect() as connection:
        alive = leases.c.heartbeat + leases.c.ttl_s >= _clock(connection)
        query = select(leases.c.name).where(leases.c.owner.is_not(None), alive)
        return tuple(connection.scalars(query.order_by(leases.c.name)))


def heartbeat_lease(catalog: Engine, name: str, owner: str, fence: int) -> None:
    """Say that the owner lives.

    Raises
    ------
    LeaseHeld
        The lease has been released or taken over: the caller must stop.
    """
    with writing(catalog) as connection:
        beaten = connection.execute(
            update(leases)
            .where(leases.c.name == name, leases.c.owner == owner, leases.c.fence == fence)
            .values(heartbeat=_clock(connection))
        ).rowcount
    if not beaten:
        raise LeaseHeld(
            f"{name} is no longer held by {owner} with number {fence}: stop this run, another one "
            "may have gone on in its place."
        )


def release_lease(catalog: Engine, name: str, owner: str, fence: int) -> bool:
    """Give a lease back; False when it was no longer the owner's."""
    with writing(catalog) as connection:
        released = connection.execute(
            update(leases)
            .where(leases.c.name == name, leases.c.owner == owner, leases.c.fence == fence)
            .values(owner=None)
        ).rowcount
    return bool(released)


def check_fence(connection: Connection, name: str, fence: int) -> None:
    """Refuse, inside the caller's transaction, what comes with an outdated fencing number.

    Raises
    ------
    LeaseHeld
        The lease was released or taken over since.
    """
    query = select(leases.c.fence, leases.c.owner).filter_by(name=name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None or row.owner is None or row.fence != fence:
        raise LeaseHeld(
            f"{name} is no longer held with number {fence}: nothing was written, stop this run."
        )


def _clock(connection: Connection) -> float:
    """Return seconds since 1970: of the server where hosts share it, else of this host."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))))
    return time.time()
