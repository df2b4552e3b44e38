"""Measured errors of models and of other densities, what `denser evaluate` does."""
