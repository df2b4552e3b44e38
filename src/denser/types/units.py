"""The conversion factors of the package."""

BOHR = 0.52917721092
"""Length of one bohr in angstrom, PySCF's (CODATA 2010): a box in angstrom then is the same to
the last digit there, where rounding can decide about the size of a coarse grid."""

HARTREE = 27.211386245988
"""One hartree in electronvolt (CODATA 2018)."""

DEBYE = 2.541746473
"""One atomic unit of dipole moment, e*bohr, in debye (CODATA 2018)."""

KCAL_PER_MOL = 627.509474
"""One hartree in kcal/mol (CODATA 2018, thermochemical calorie)."""

KJ_PER_MOL = 4.184 * KCAL_PER_MOL
"""One hartree in kJ/mol."""

FEMTOSECOND = 0.024188843265864
"""One atomic unit of time in femtoseconds (CODATA 2018)."""

INTENSITY = 3.50944553e16
"""Intensity of light with a peak field of one atomic unit, E^2 c / (8 pi), in W/cm^2."""

WAVE_NUMBER = 219474.6313632
"""One hartree in 1/cm (CODATA 2018)."""

KELVIN = 3.1668115634556e-6
"""Boltzmann's constant, hartree per kelvin (CODATA 2018)."""
