"""Floor 10: verbs for a person. Words go to stderr, data to stdout; with --json the last line is
one document.
"""
