"""Non-covalent interactions and voids."""
