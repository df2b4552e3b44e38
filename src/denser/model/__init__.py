"""Networks, their files, and what makes a raw network output a density."""
