"""The database: SQLAlchemy Core tables and queries, the same on SQLite and PostgreSQL."""
