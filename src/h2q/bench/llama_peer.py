"""llama.cpp's own engine through llama-cpp-python's low-level interface: a loop of llama_decode and
the largest logit, with the library's defaults (flash attention and repacking as it decides).
"""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from h2q.core.errors import ResourceError


def installed() -> bool:
    """Whether there is a peer to measure against."""
    return find_spec("llama_cpp") is not None


class LlamaLibrary:
    """The library, quiet. Raises ResourceError where the package is missing."""

    def __init__(self) -> None:
        if not installed():
            raise ResourceError("llama-cpp-python is not installed.", fix="make bench-peers")
        self.api: Any = importlib.import_module("llama_cpp.llama_cpp")
        self._quiet = self.api.llama_log_callback(lambda level, words, data: None)
        self.api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.api.llama_backend_init()

    def about(self) -> dict[str, str]:
        """Its version, and what it was built for."""
        told = self.api.llama_print_system_info().decode()
        return {
            "llama_cpp_python": version("llama-cpp-python"),
            "llama_cpp_system": " ".join(told.split()),
        }


class LlamaPeer:
    """One file in memory with a context of its own; `first`: one token is said at once, which pays
    for pages. Raises ResourceError where the library does not take it.
    """

    def __init__(
        self, library: LlamaLibrary, path: Path, context: int, threads: int, first: bool = True
    ) -> None:
        self._api = api = library.api
        self._model = api.llama_model_load_from_file(
            str(path).encode(), api.llama_model_default_params()
        )
        if not self._model:
            raise ResourceError("llama.cpp does not load the file.", where=path.name)
        options = api.llama_context_default_params()
        options.n_ctx, options.n_threads, options.n_threads_batch = context, threads, threads
        self._context = api.llama_init_from_model(self._model, options)
        if not self._context:
            raise ResourceError("llama.cpp makes no context of this size.", where=path.name)
        self._memory = api.llama_get_memory(self._context)
        self._size = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model)))
        if first:
            self.decode([3], 1)

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds to read a prompt and choose the first token."""
        self._api.llama_memory_clear(self._memory, True)
        began = time.perf_counter()
        self._run(prompt)
        return time.perf_counter() - began

    def decode(self, prompt: Sequence[int], count: int) -> float:
        """Seconds of a token, over `count` tokens behind a prompt."""
        self._api.llama_memory_clear(self._memory, True)
        token = self._run(prompt)
        began = time.perf_counter()
        for _ in range(count):
            token = self._run([token])
        return (time.perf_counter() - began) / count

    def close(self) -> None:
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def _run(self, tokens: Sequence[int]) -> int:
        """The likeliest token behind these."""
        api = self._api
        array = (api.llama_token * len(tokens))(*tokens)
        failed = api.llama_decode(self._context, api.llama_batch_get_one(array, len(tokens)))
        if failed:
            raise ResourceError(f"llama.cpp did not run its tokens (it says {failed}).")
        logits = api.llama_get_logits_ith(self._context, -1)
        found = np.ctypeslib.as_array(logits, (self._size,))
        if len(tokens) > 1 and not np.isfinite(found).all():
            raise ResourceError("llama.cpp's logits are not finite: the file is not what it takes.")
        return int(found.argmax())
