"""Atomic charges: partitioned, of basins, and fitted to the potential."""
