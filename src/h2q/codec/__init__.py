"""Floor 2: what a plane is. Constants, byte layout, and the NumPy reference of everything done with
one.
"""
