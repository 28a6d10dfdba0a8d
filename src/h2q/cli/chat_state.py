"""A conversation: what was said, how answers are wished, and how both are kept in a file."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from h2q.core.asks import Ask, Effort, Form, Message, Role
from h2q.core.errors import ResourceError, UsageError
from h2q.core.files import read_bounded
from h2q.core.sampling_options import SamplingOptions

FORMAT, VERSION = "h2q-chat", 1
MAX_BYTES = 64 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
OTHERS = {"num_predict": "max_tokens"}  # as Modelfiles call it
COUNTS = ("top_k", "repeat_last_n", "seed", "max_tokens")
NUMBERS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty",
           "frequency_penalty")  # fmt: skip
PARAMETERS = (*NUMBERS, *COUNTS, "stop")
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass
class Talk:
    """One conversation. `beginning`: turns that the model brings along; `stops`: texts that end
    the turns of a model without a template.
    """

    model: str
    sampling: SamplingOptions
    system: str = ""
    template: str | None = None
    beginning: tuple[Message, ...] = ()
    stops: tuple[str, ...] = ()
    form: Form | None = None
    think: bool | Effort | None = None
    ring: int = 0
    messages: list[Message] = field(default_factory=list)

    def ask(self, text: str) -> Ask:
        """The ask for an answer to a new turn of the user."""
        stop = tuple(dict.fromkeys((*self.sampling.stop, *self.stops)))
        return Ask(
            messages=(*self.beginning, *self.messages, Message("user", text)),
            system=self.system or None,
            template=self.template,
            think=self.think,
            sampling=replace(self.sampling, stop=stop),
            form=self.form,
            ring=self.ring,
            shift=True,
        )

    def heard(self, text: str, content: str, reasoning: str) -> None:
        """Keep a turn and its answer."""
        self.messages += [Message("user", text), Message("assistant", content, reasoning)]

    def set_parameter(self, name: str, values: list[str]) -> None:
        """Raises UsageError for an unknown one and for a value out of its range."""
        ours = OTHERS.get(name, name)
        if ours not in PARAMETERS or not values:
            known = ", ".join((*PARAMETERS, *OTHERS))
            raise UsageError(f"There is no parameter {name[:40]!r}.", fix=f"There are {known}.")
        value: Any = tuple(values)
        if ours != "stop":
            value = _number(ours, values[0])
        if ours == "max_tokens" and value < 0:
            value = None  # until it ends
        self.sampling = replace(self.sampling, **{ours: value})

    def parameters(self) -> list[tuple[str, str]]:
        """Those that differ from the model's own distribution, as text."""
        plain = SamplingOptions()
        rows = list[tuple[str, str]]()
        for name in PARAMETERS:
            value = getattr(self.sampling, name)
            if value != getattr(plain, name):
                rows += [(name, str(one)) for one in (value if name == "stop" else (value,))]
        return rows

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all. Raises ResourceError."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "system": self.system,
            "parameters": {f.name: getattr(self.sampling, f.name) for f in fields(self.sampling)
                           if f.name in PARAMETERS},
            "messages": [
                {"role": m.role, "content": m.content, "reasoning": m.reasoning}
                for m in self.messages
            ],
        }  # fmt: skip
        data = json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".chat-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, path)
            except BaseException:
                os.unlink(beside)
                raise
        except OSError as error:
            raise ResourceError(
                f"The conversation cannot be saved: {error.strerror}.", where=path.name
            ) from error

    def load(self, path: Path) -> None:
        """Go on with a saved one. Raises UsageError when there is none, or the file is another."""
        if not path.exists():
            raise UsageError("No conversation was saved under that name.", where=path.stem)
        try:
            found = json.loads(read_bounded(path, MAX_BYTES, UsageError))
            if (found["format"], found["version"]) != (FORMAT, VERSION):
                raise ValueError
            messages = [
                Message(ROLES[row["role"]], str(row["content"]), str(row["reasoning"]))
                for row in found["messages"]
            ]
            options = {name: value for name, value in found["parameters"].items()
                       if name in PARAMETERS}  # fmt: skip
            options["stop"] = tuple(options.get("stop") or ())
            sampling = replace(self.sampling, **options)
            system = str(found["system"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UsageError("This is no saved conversation.", where=path.name) from error
        self.messages, self.sampling, self.system = messages, sampling, system


def place(folder: Path, name: str) -> Path:
    """The file of a saved conversation. Raises UsageError for a name that no file should have."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"A conversation cannot be called {name[:40]!r}.",
            fix="Use letters, digits, dots, hyphens and underlines.",
        )
    return folder / f"{name}.json"


def _number(name: str, text: str) -> int | float:
    try:
        return int(text) if name in COUNTS else float(text)
    except ValueError:
        raise UsageError(f"{name} is a number, not {text[:40]!r}.", where=name) from None
