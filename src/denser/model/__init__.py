"""Networks, model files, and predictions of densities."""
