"""Critical points, gradient paths and interatomic surfaces of the density."""
