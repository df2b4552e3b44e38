"""Atomic tables, made by `denser.dft.atoms`."""
