"""What is known of one atom: superposed atomic densities, free atoms, tables."""
