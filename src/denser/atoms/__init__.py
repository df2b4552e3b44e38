"""Atoms: superposed atomic densities, free atoms, radii and tables."""
