"""Labels, their rendering to grids, and augmentation; no PySCF."""
