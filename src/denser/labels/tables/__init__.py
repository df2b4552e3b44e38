"""The split of QM9."""
