"""Reports: properties of many densities in a folder, the work of `denser analyze`."""
