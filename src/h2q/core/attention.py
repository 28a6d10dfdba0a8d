"""How one layer's attention forms its scores: plain numbers, the same for every token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionRule:
    """scale: what products of query and key are multiplied by. window: positions a query sees,
    itself included; 0 for all. softcap: scores become softcap * tanh(score / softcap) (Gemma 2);
    0 for none.
    """

    scale: float
    window: int = 0
    softcap: float = 0.0
