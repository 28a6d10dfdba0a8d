"""Who is there: the endpoints without a model."""

from __future__ import annotations

from h2q.server.ollama.words import dumps
from h2q.server.reply import Reply, text_reply
from h2q.server.request import Request

OLLAMA_VERSION = "0.32.7"  # whose API this is; clients compare it before they use newer fields


async def root(request: Request) -> Reply:
    return text_reply("Ollama is running")


async def version(request: Request) -> Reply:
    import h2q

    return Reply(dumps({"version": OLLAMA_VERSION, "h2q": h2q.__version__}))


async def status(request: Request) -> Reply:
    return Reply(dumps({"cloud": {"disabled": True, "source": "none"}}))
