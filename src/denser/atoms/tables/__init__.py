"""Atomic tables, made by `denser.dft.tables`."""
