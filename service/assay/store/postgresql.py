"""PostgreSQL: the options of its URL, the limits of its transactions, and bounded waits.

How it works
    A server that is stopped, or a host that is gone, does not answer, while the kernel may still
    acknowledge what was sent. Neither the server's limits nor those of TCP end such a wait.
    Therefore each connection watches the silence itself: if the server sends nothing and takes
    nothing for longer than its statement may last, the connection is closed, and the statement
    fails like one whose connection broke. Progress resets the watch, so that a long import is not
    cut off.

    A limit on statements keeps the silence of a working server shorter than the watch allows. A
    limit on locks and one on standing still keep a writer that was suspended from blocking others
    for more than seconds. A session begins with the limits SERVING. A transaction with other limits
    sets them for itself.

    Behind a pooler in transaction mode, which `prepare_threshold=0` announces, all that outlives a
    transaction may reach another client, or be lost. Then nothing is prepared, and each transaction
    sets its limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import Conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event

from assay.engine.errors import quoted
from assay.store.time_limits import OPTION, POOL_S, SERVING, TimeLimits, WaitCeiling

Value = TypeVar("Value")

CONNECT_S: Final = 5
_SILENCE_MARGIN_S: Final = 5.0  # how much later than the server's own limit the watch ends a wait
_LEAST_CONNECT_S: Final = 2  # psycopg waits no shorter
_DEFAULTS: Final[dict[str, object]] = {
    "application_name": "assay",
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class InvalidOption(ValueError):
    """An option of the URL that is not known, or a value that is not of its type."""


class WatchedConnection(psycopg.Connection[Any]):
    """A connection that fails if the server is silent for `silence_s`, or for `ceiling`."""

    silence_s: float = SERVING.statement + _SILENCE_MARGIN_S
    ceiling: WaitCeiling = WaitCeiling()
    session_limits: TimeLimits | None = None

    def wait(self, gen: PQGen[Value], interval: float = 0.1, timeout: float | None = None) -> Value:
        """Consume a generator of psycopg, as in the base class, and watch the silence."""
        return super().wait(self._watch(gen), interval, timeout)

    def _watch(self, gen: PQGen[Value]) -> PQGen[Value]:
        """Yield what `gen` waits for; close the connection once it has waited for too long."""
        heard_at = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                silence_s = 0.0 if ready else time.monotonic() - heard_at
                if silence_s > min(self.silence_s, self.ceiling.seconds):
                    self.pgconn.finish()
                    self.ceiling.give_up()
                    message = f"the server has not answered for {silence_s:.1f} s"
                    raise psycopg.OperationalError(message)
                if ready:
                    heard_at = time.monotonic()
                state = gen.send(ready)
        except StopIteration as ended:
            result: Value = ended.value
            return result


def open_postgresql(url: URL, ceiling: WaitCeiling) -> Engine:
    """Return an engine whose waits are bounded; raises InvalidOption."""
    url, arguments = _read_options(url)
    is_pooled = "prepare_threshold" in arguments and arguments["prepare_threshold"] is None

    def connect(
        _dialect: object, _record: object, names: list[str], options: dict[str, Any]
    ) -> WatchedConnection:
        if ceiling.seconds == 0:
            raise psycopg.OperationalError("the server does not answer, and this process stops")
        longest = int(min(options["connect_timeout"], ceiling.seconds))
        timeout = max(longest, _LEAST_CONNECT_S)
        try:
            found = WatchedConnection.connect(*names, **{**options, "connect_timeout": timeout})
        except psycopg.OperationalError:
            ceiling.give_up()
            raise
        found.ceiling = ceiling
        if not is_pooled:
            found.execute(_limits_statement(SERVING, is_local=False).encode())
            found.commit()
            found.session_limits = SERVING
        return found

    # INVARIANT: each statement of a writer sees what is committed, whatever the server's default.
    database = create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=POOL_S,
        connect_args=arguments,
        isolation_level="READ COMMITTED",
    )
    event.listen(database, "do_connect", connect)
    event.listen(database, "checkin", _expect_quick_answers)
    event.listen(database, "begin", _set_limits)
    return database


def _expect_quick_answers(connection: WatchedConnection | None, _record: object) -> None:
    """Let the check before the next use fail soon; a transaction sets its own limit."""
    if connection is not None:
        connection.silence_s = CONNECT_S


def _set_limits(connection: Connection) -> None:
    """Set the limits of the transaction that begins, on the server and on the connection."""
    options = connection.get_execution_options()
    limits: TimeLimits = options.get(OPTION, SERVING)
    if not options.get("assay_writes", False):
        limits = replace(limits, idle=limits.idle_reader)
    driver: Any = connection.connection.driver_connection
    driver.silence_s = limits.statement + _SILENCE_MARGIN_S
    if limits != driver.session_limits:
        connection.exec_driver_sql(_limits_statement(limits, is_local=True))


def _limits_statement(limits: TimeLimits, *, is_local: bool) -> str:
    values = {
        "statement_timeout": limits.statement,
        "lock_timeout": limits.lock,
        "idle_in_transaction_session_timeout": limits.idle,
    }
    scope = "true" if is_local else "false"
    calls = (f"set_config('{name}', '{each * 1000:.0f}', {scope})" for name, each in values.items())
    return f"SELECT {', '.join(calls)}"


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def _prepare_threshold(text: str) -> int | None:
    """Return psycopg's threshold; 0 prepares nothing, which psycopg calls None."""
    return _whole_number(0, 1_000_000)(text) or None


_SECONDS: Final = _whole_number(1, 3600)
_OPTIONS: Final[dict[str, Callable[[str], object]]] = {
    "connect_timeout": _SECONDS,
    "keepalives": _whole_number(0, 1),
    "keepalives_idle": _SECONDS,
    "keepalives_interval": _SECONDS,
    "keepalives_count": _whole_number(1, 100),
    "port": _whole_number(1, 65535),
    "prepare_threshold": _prepare_threshold,
    "tcp_user_timeout": _whole_number(0, 3_600_000),
}


def _read_options(url: URL) -> tuple[URL, dict[str, object]]:
    """Return the URL without the options that have a type, and the arguments of the connection."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | _OPTIONS.keys()
    arguments = {name: each for name, each in _DEFAULTS.items() if name not in url.query}
    for name, value in url.query.items():
        if name not in known:
            raise InvalidOption(f"unknown option {quoted(name)} after `?`")
        # Several hosts and ports may be given; SQLAlchemy reads them.
        if name in _OPTIONS and not (name == "port" and "host" in url.query):
            if not isinstance(value, str):
                raise InvalidOption(f"option {name} is given more than once")
            try:
                arguments[name] = _OPTIONS[name](value)
            except ValueError as error:
                raise InvalidOption(f"option {name}: {quoted(value)}, {error}") from error
    return url.difference_update_query([*(arguments.keys() & url.query.keys())]), arguments
