"""Ollama's native API on the wire: embeddings, the installed models, blobs, pull and create."""

from __future__ import annotations

import hashlib
import json
import re

from scripted_server import Running

MODEL = "scripted"


def test_embeddings(scripted: Running) -> None:
    status, found = scripted.post("/api/embed", {"model": MODEL, "input": ["a", "bc"]})
    assert (status, found["embeddings"]) == (200, [[0.5] * 4] * 2)
    assert found["prompt_eval_count"] == 3
    _, found = scripted.post("/api/embed", {"model": MODEL, "input": "a", "dimensions": 1})
    assert found["embeddings"] == [[1.0]]
    assert scripted.post("/api/embed", {"model": MODEL})[1]["embeddings"] == []
    assert scripted.post("/api/embeddings", {"model": MODEL, "prompt": "a"})[1] == {
        "embedding": [0.5] * 4
    }
    assert scripted.post("/api/embeddings", {"model": MODEL})[1] == {"embedding": []}


def test_what_is_installed(scripted: Running) -> None:
    item = json.loads(scripted.call("GET", "/api/tags")[2])["models"][0]
    assert item["name"] == item["model"] == "scripted:latest"
    assert item["details"]["parameter_size"] == "260.00K"
    assert item["details"]["families"] == ["llama"]
    assert re.fullmatch("[0-9a-f]{64}", item["digest"])
    assert scripted.call("HEAD", "/api/tags")[2] == b""
    _, shown = scripted.post("/api/show", {"name": "Scripted:LATEST"})
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["modelfile"].splitlines()[1] == "FROM scripted:latest"


def test_names_and_blobs(scripted: Running) -> None:
    assert scripted.post("/api/copy", {"source": MODEL, "destination": "second"}) == (200, None)
    assert scripted.call("DELETE", "/api/delete", {"model": "second"})[0] == 200
    status, _, data = scripted.call("DELETE", "/api/delete", {"model": "second"})
    assert (status, json.loads(data)) == (404, {"error": "model 'second' not found"})
    data = b"GGUF" * 1000
    place = "/api/blobs/sha256:" + hashlib.sha256(data).hexdigest()
    assert [
        scripted.call("HEAD", place)[0],
        scripted.call("POST", place, data)[0],
        scripted.call("HEAD", place)[0],
        scripted.call("POST", place, data)[0],
    ] == [404, 201, 200, 200]
    status, found = scripted.post("/api/blobs/sha256:" + "0" * 64, data)
    assert status == 400
    assert found["error"].startswith("digest mismatch, expected sha256:00")


def test_pull_and_create_tell_how_far_they_are(scripted: Running) -> None:
    lines = scripted.lines("/api/pull", {"model": "pulled"})
    assert lines[0] == {"status": "pulling manifest"}
    assert "completed" not in lines[1]
    assert lines[3]["completed"] == lines[3]["total"] == 100
    assert lines[-1] == {"status": "success"}
    done = scripted.post("/api/pull", {"name": "pulled", "stream": False})
    assert done == (200, {"status": "success"})
    last = scripted.lines("/api/pull", {"model": "nowhere"})[-1]
    assert "no such model" in last["error"]
    body = {"model": "made", "from": MODEL, "system": "s", "parameters": {"top_k": 1}}
    assert scripted.lines("/api/create", body)[-1] == {"status": "success"}
    name, recipe = scripted.house.recipes[-1]
    assert (name, recipe.base, recipe.system) == ("made", MODEL, "s")
    assert recipe.parameters == (("top_k", 1),)
    status, found = scripted.post("/api/push", {"model": "made"})
    assert status == 501
    assert "cannot be pushed" in found["error"]


def test_paths_and_methods(scripted: Running) -> None:
    assert scripted.call("GET", "/")[2] == b"Ollama is running"
    assert scripted.call("HEAD", "/")[0] == 200
    assert scripted.call("GET", "/api/chat")[0] == 405
    assert scripted.call("GET", "/api/nothing")[0] == 404
    assert set(json.loads(scripted.call("GET", "/api/version")[2])) >= {"version"}
    assert json.loads(scripted.call("GET", "/api/status")[2])["cloud"]["disabled"] is True


def test_any_content_type_will_do(scripted: Running) -> None:
    body = json.dumps({"model": MODEL, "prompt": "p", "stream": False}).encode()
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        assert scripted.call("POST", "/api/generate", body, {"Content-Type": kind})[0] == 200
