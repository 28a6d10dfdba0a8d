"""Floor 0: specs, events, errors, settings, units and bounded header parsers. Knows nothing of
arrays.
"""
