"""The demo: the whole loop on real data, embedded, without any setup."""
