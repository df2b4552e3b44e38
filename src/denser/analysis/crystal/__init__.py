"""Structure factors, maps, and what crystallography needs of a density."""
