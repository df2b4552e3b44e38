"""The only conversion factors of the package (CODATA 2018, as in PySCF and ASE)."""

BOHR = 0.529177210903
"""Length of one bohr in angstrom."""

HARTREE = 27.211386245988
"""One hartree in electronvolt."""

DEBYE = 2.541746473
"""One atomic unit of dipole moment, e*bohr, in debye."""
