"""Floor 6: keep a crystal alive. Hot start, sessions, memory."""

from h2q.runtime.hot_start import HotStartManager
from h2q.runtime.session import Session, Statistics

__all__ = ["HotStartManager", "Session", "Statistics"]
