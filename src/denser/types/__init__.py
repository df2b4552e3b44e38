"""The few types that everything speaks in: structures, grids, densities, recipes. NumPy only."""
