"""Floor 1: the mathematics of the product. Today: orthogonal rotations; spectra, knots and
decisions attach here.
"""
