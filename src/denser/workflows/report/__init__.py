"""Reports: properties of many densities in a folder, what `denser analyze` does."""
