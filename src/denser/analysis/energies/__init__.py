"""Energies and orbital properties of a density."""
