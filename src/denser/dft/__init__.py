"""Kohn-Sham calculations and atomic tables; the only room that imports PySCF."""
