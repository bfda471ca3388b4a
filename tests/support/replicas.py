"""A streaming replica of an embedded PostgreSQL, and a failover to it that loses commits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

import psycopg
from sqlalchemy import make_url
from tests.support.databases import PostgreSQL, execute
from tests.support.directories import fast_directory
from tests.support.waiting import eventually


@dataclass
class Replica:
    """A replica that follows the primary until `stop_receiving`."""

    primary: PostgreSQL
    directory: Path
    url: str

    def has_caught_up(self) -> bool:
        """Whether everything that the primary has committed is here, too."""
        with psycopg.connect(self.primary.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert row is not None
        with psycopg.connect(self.url, autocommit=True) as connection:
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            found = connection.execute(query, (row[0],)).fetchone()
        return found is not None and bool(found[0])

    def stop_receiving(self) -> None:
        """Stay behind from now on: everything later exists on the primary only."""
        execute(self.url, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        with psycopg.connect(self.url, autocommit=True) as connection:
            receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
            eventually(lambda: connection.execute(receivers).fetchone() == (0,))

    def fail_over(self) -> None:
        """Stop the primary as a crash does, and promote this replica in its place."""
        self.primary.stop_immediately()
        self.stop()
        lost = self.primary.directory.with_name(f"{self.primary.directory.name}-lost")
        self.primary.directory.rename(lost)
        self.directory.rename(self.primary.directory)
        shutil.rmtree(lost)
        self.primary.start()
        execute(self.primary.url, "SELECT pg_promote()")

    def stop(self) -> None:
        """Stop the replica, if it runs."""
        with suppress(CalledProcessError):
            self.primary.run("pg_ctl", "-D", self.directory, "-w", "-m", "fast", "stop")


@contextmanager
def streaming_replica(primary: PostgreSQL) -> Iterator[Replica]:
    """Copy a primary and follow it; skip the test where the programs are missing."""
    with fast_directory("assay-pg-replica-") as directory:
        owner = primary.directory.stat()
        shutil.chown(directory, owner.st_uid, owner.st_gid)
        primary.run("pg_basebackup", "-d", primary.url, "-D", directory, "-R", "-c", "fast")
        for socket in directory.glob(".s.PGSQL.*"):
            socket.unlink()  # the primary's
        options = f"-c listen_addresses='' -c unix_socket_directories={directory}"
        log = directory / "replica.log"
        primary.run("pg_ctl", "-D", directory, "-w", "-l", log, "-o", options, "start")
        url = make_url(primary.url).update_query_dict({"host": str(directory)})
        replica = Replica(primary, directory, url.render_as_string(hide_password=False))
        try:
            yield replica
        finally:
            replica.stop()
