"""Floor 9: the story told end to end, every figure measured while it is told."""

from h2q.demo.story import Demo

__all__ = ["Demo"]
