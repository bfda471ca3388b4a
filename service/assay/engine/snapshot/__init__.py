"""The immutable published world that decisions are made from."""
