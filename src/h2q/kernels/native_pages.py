"""Attention over pages; the extension does not have it yet, so the twins do the work."""

from __future__ import annotations

from h2q.kernels.paged_twins import attend_pages, store_attend, store_pages

__all__ = ["attend_pages", "store_attend", "store_pages"]
