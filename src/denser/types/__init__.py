"""The basic types: structures, grids, densities, recipes. They need only NumPy."""
