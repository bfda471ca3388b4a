"""A log that commands made, and manual tampering with its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import Connection, delete, insert, select, update
from tests.support.catalogs import DEMO_CATALOGS, KIMI, KIMI_CSV, NOW, POLICY
from tests.support.commands import CommandResult, assay

from assay.cli.options import instant
from assay.decision_log.tables import chain_head, decision, finding_set_word, journal_record
from assay.engine.world.request import ProviderPreferences, Request
from assay.journal.chain import HeadSigner
from assay.server.database import open_current_database
from assay.server.service import recording_decider
from assay.store.database import open_database, writing

Tamper = Callable[[Connection], object]
record, row = journal_record.c, decision.c
PLAIN = Request(model=KIMI)
PICKY = Request(model=KIMI, provider=ProviderPreferences(ignore=("novita",)), tenant="acme")
OURS = 'decision.variant == "exacto" && "deepinfra" in decision.excluded_providers'
EXACTO = Request(model=f"{KIMI}:exacto", tools=2)


@dataclass
class AuditedLog:
    """A database with decisions, and its journal."""

    url: str
    journal: Path
    ids: list[str] = field(default_factory=list)

    def decide(self, *requests: Request) -> list[str]:
        """Decide and record, all in one stream."""
        with (
            open_current_database(self.url) as database,
            recording_decider(database, POLICY, instant("--now", NOW), self.journal) as decider,
        ):
            made = [decider.decide(request).decision_id for request in requests]
        self.ids += made
        return made

    def audit(self, command: str, *arguments: object) -> CommandResult:
        """Run a command of `assay audit` on this log."""
        return assay("audit", command, *arguments, "--database", self.url)

    def listed(self, *arguments: object) -> list[str]:
        """Return the ids that `list` prints."""
        ran = self.audit("list", *arguments, "--json")
        assert (ran.code, ran.err) == (0, "")
        return [found["decision_id"] for found in ran.json["decisions"]]

    def verify(self, *arguments: object) -> CommandResult:
        return self.audit("verify", "--journal", self.journal, *arguments)

    def tamper(self, by: Tamper) -> None:
        """Change the database directly."""
        database = open_database(self.url)
        with writing(database) as connection:
            by(connection)
        database.dispose()


def create_log(url: str, folder: Path) -> AuditedLog:
    """Create an empty log over the demo's model with its prices and observations."""
    assert assay("import", "catalog", DEMO_CATALOGS[1], "--database", url).code == 0
    assert assay("import", "observations", KIMI_CSV, "--database", url).code == 0
    return AuditedLog(url, folder / "journal")


def edit_record(connection: Connection) -> None:
    alter(connection, 3, b'"tools":2', b'"tools":3')
    connection.execute(update(decision).where(row.seq == 3).values(tools=3))


def edit_row(connection: Connection) -> None:
    connection.execute(update(decision).where(row.seq == 3).values(first_provider="friend"))


def edit_words(connection: Connection) -> None:
    connection.execute(delete(finding_set_word).where(finding_set_word.c.word == "deepinfra"))


def edit_signature(connection: Connection) -> None:
    connection.execute(update(chain_head).values(signature=bytes(64)))


def delete_from(first: int, last: int) -> Tamper:
    def by(connection: Connection) -> None:
        connection.execute(delete(decision).where(row.seq.between(first, last)))
        connection.execute(delete(journal_record).where(record.seq.between(first, last)))

    return by


def delete_row(connection: Connection) -> None:
    connection.execute(delete(decision).where(row.seq == 3))


def cut_tail_and_head(connection: Connection) -> None:
    delete_from(5, 6)(connection)
    connection.execute(delete(chain_head))


def renumber(connection: Connection, old: int, new: int) -> None:
    connection.execute(update(decision).where(row.seq == old).values(seq=new))
    connection.execute(update(journal_record).where(record.seq == old).values(seq=new))


def swap(connection: Connection) -> None:
    for old, new in ((3, 1000), (4, 3), (1000, 4)):
        renumber(connection, old, new)


def forge(connection: Connection, source: int, seq: int) -> None:
    """Insert a copy of a record under another id, as a forger would."""
    original: Any = connection.execute(select(journal_record).where(record.seq == source)).one()
    listed: Any = connection.execute(select(decision).where(row.seq == source)).one()
    forged = listed.decision_id[:-4] + "ffff"
    payload = bytes(original.payload).replace(listed.decision_id.encode(), forged.encode())
    connection.execute(
        insert(journal_record).values({**original._mapping, "seq": seq, "payload": payload})
    )
    connection.execute(
        insert(decision).values({**listed._mapping, "seq": seq, "decision_id": forged})
    )


def insert_between(connection: Connection) -> None:
    for seq in (6, 5, 4):
        renumber(connection, seq, seq + 1)
    forge(connection, 3, 4)


def insert_behind(connection: Connection) -> None:
    forge(connection, 6, 7)


def insert_row(connection: Connection) -> None:
    forge(connection, 6, 99)
    connection.execute(delete(journal_record).where(record.seq == 99))


def alter(connection: Connection, seq: int, old: bytes, new: bytes) -> None:
    """Replace bytes of a record."""
    payload = bytes(
        connection.execute(select(record.payload).where(record.seq == seq)).scalar_one()
    )
    assert old in payload
    connection.execute(
        update(journal_record).where(record.seq == seq).values(payload=payload.replace(old, new, 1))
    )


def public_half(path: Path) -> bytes:
    """Return the public key of a private one, as `openssl pkey -pubout` prints it."""
    key = load_pem_private_key(path.read_bytes(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def new_key(path: Path) -> None:
    HeadSigner(path)


def instant_of(text: str) -> datetime:
    return datetime.fromisoformat(text)
