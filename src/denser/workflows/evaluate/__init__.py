"""Measured errors of models and of other densities: the work of `denser evaluate`."""
