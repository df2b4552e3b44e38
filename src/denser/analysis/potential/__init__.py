"""Electrostatic potentials: on grids, at points, on surfaces."""
