"""Energies and orbital properties that a density gives."""
