"""The conversation that a model begins: its system text, parameters and first turns."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from h2q.cli.chat_state import OTHERS, PARAMETERS, Talk
from h2q.cli.options import named as installed
from h2q.core.asks import Ask
from h2q.crystal.template import read_template

if TYPE_CHECKING:
    from h2q.crystal.store_names import StoredModel

NEXT = "\n\nUser:"  # how the next turn would begin where a model knows none


def talk_with(crystal: Path, ask: Ask, named: Set[str]) -> Talk:
    """A talk with a crystal, as the ask says. What an installed model brings along stands before
    the program's own defaults, and behind what is `named` on the command line. Raises CrystalError.
    """
    talk = Talk(crystal.name, ask.sampling, form=ask.form, ring=ask.ring)
    if stored := _stored(crystal):
        card = stored.card(None)
        talk.model, talk.system, talk.beginning = card.name, card.system, card.messages
        talk.template = stored.details.template
        for name, value in card.options:
            ours = OTHERS.get(name, name)
            if ours in PARAMETERS and ours not in named:
                values = value if isinstance(value, (list, tuple)) else (value,)
                talk.set_parameter(name, [str(one) for one in values])
    if talk.template is None and read_template(crystal) is None:
        talk.stops = (NEXT,)
    return talk


def _stored(crystal: Path) -> StoredModel | None:
    """The installed model that was asked for by its name; many names may share a folder."""
    from h2q.crystal.store import Store

    name = installed.get(crystal)
    return None if name is None else Store().find(name)
