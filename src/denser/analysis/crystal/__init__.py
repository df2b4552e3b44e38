"""Structure factors, maps, and other crystallographic properties of a density."""
