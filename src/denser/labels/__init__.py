"""Reference labels: one label, stores of them, their rendering to grids, QM9; no PySCF."""
