"""Floor 1: the mathematics of the product. Today: orthogonal rotations and decisions over ladders
of steps; spectra and knots attach here.
"""
