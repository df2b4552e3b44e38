"""Pictures: isosurfaces, slices, properties, distributions of errors."""
