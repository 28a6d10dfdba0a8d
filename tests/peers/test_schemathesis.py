"""Requests that schemathesis makes of `/openapi.json`, right ones and wrong ones, to the scripted
server and to `h2q serve` with the seed's crystal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from h2q.bench.scripted import Script
from h2q.server.app import DIALECTS
from h2q.server.dialect import load
from h2q.server.documents import document
from h2q.server.health import House
from scripted_server import running
from served import served

requests: Any = pytest.importorskip("requests", reason="requests is not installed")
schemathesis: Any = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from schemathesis import GenerationMode  # noqa: E402

Api = tuple[Any, str, Any]  # the interface, the model's name, a session
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
EXAMPLES = 20
HERE = (House(), *(load(place)() for place in DIALECTS))
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in document(HERE)["paths"].items()
    for method in methods
]
# Those that would need a network, or do away with the model that is asked for.
KEPT_AWAY = ("POST /api/pull", "POST /api/create", "DELETE /api/delete", "POST /api/copy")
HURRIED = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def opened(address: str, model: str) -> Iterator[Api]:
    with requests.Session() as session:
        schema = schemathesis.openapi.from_dict(document(HERE))
        schema.config.update(base_url=address)
        yield schema, model, session


@pytest.fixture(scope="module")
def scripted_api() -> Iterator[Api]:
    with running(Script(tokens=2)) as server:
        yield from opened(server.address, "scripted")


@pytest.fixture(scope="module")
def seed_api(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Api]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as server:
        yield from opened(server.address, "seed")


def judge(case: Any, label: str, answer: Any) -> None:
    """Everything that was said is as described; only what is beyond us is called our failure."""
    checks = schemathesis.checks
    words = answer.text or ""
    known = (
        (answer.status_code == 501 and label == "POST /api/push")
        or (answer.status_code == 500 and '"option \\"' in words)  # as Ollama has it
        or (answer.status_code == 404 and "page not found" in words)
    )
    if known:
        return
    wanted = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
              "response_schema_conformance")  # fmt: skip
    found = [check for check in checks.CHECKS.get_all() if check.__name__ in wanted]
    assert len(found) == len(wanted)
    case.validate_response(answer, checks=found)


def tried(api: Api, label: str) -> None:
    schema, model, session = api
    method, path = label.split(" ")
    operation = schema[path][method]

    bodies = method == "POST" and "digest" not in path
    for mode in MODES if bodies else MODES[:1]:

        @seed(20)
        @HURRIED
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: Any) -> None:
            if isinstance(case.body, dict) and label not in KEPT_AWAY:
                case.body["model"] = model
                for most in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
                    if isinstance(case.body.get(most), int) or most == "max_tokens":
                        case.body[most] = 3
            judge(case, label, case.call(timeout=60, session=session))

        attempt()


@pytest.mark.parametrize("label", OPERATIONS)
def test_the_scripted_server(label: str, scripted_api: Api) -> None:
    tried(scripted_api, label)


@pytest.mark.parametrize("label", [label for label in OPERATIONS if label not in KEPT_AWAY])
def test_the_seed(label: str, seed_api: Api) -> None:
    tried(seed_api, label)
