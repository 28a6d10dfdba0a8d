"""Tensors of a layer's MLP: one gated MLP, or experts behind a router.

The router stays as it is: it is below a hundredth of its layer, and where two experts are nearly
even its rounding would send tokens elsewhere. Experts that see few tokens are coded like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from h2q.core.specs import ModelSpec
from h2q.core.tensor_spec import TensorSpec, bias, linear


@dataclass(frozen=True)
class ExpertNames:
    """How a family calls the room of its experts, an expert's gate, up and down, the MLP that all
    tokens share, what weighs that MLP's answer, if anything does, and the router.
    """

    room: str
    gate: str
    up: str
    down: str
    shared: str = "shared_experts"
    shared_gate: str = ""
    router: str = "gate"


PLAIN = ExpertNames("mlp", "gate_proj", "up_proj", "down_proj")
NAMES = {
    "gpt_oss": replace(PLAIN, router="router"),
    "mixtral": ExpertNames("block_sparse_moe", "w1", "w3", "w2"),
    "qwen2_moe": replace(PLAIN, shared="shared_expert", shared_gate="shared_expert_gate"),
}


def expert_names(spec: ModelSpec) -> ExpertNames:
    """Those of the family."""
    return NAMES.get(spec.family, PLAIN)


def is_expert(name: str) -> bool:
    """Whether a tensor belongs to an expert that a router chooses."""
    return ".experts." in name


def correction_name(room: str) -> str:
    """The tensor that is added to scores while experts are chosen, and only then."""
    return f"{room}.gate.e_score_correction_bias"


def gated_mlp(
    name: str, width: int, inner: int, reads: str, names: ExpertNames = PLAIN, adds: bool = True
) -> list[TensorSpec]:
    """Gate, up and down of one MLP. `reads`: what gate and up multiply."""
    return [
        linear(f"{name}.{names.gate}", inner, width, reads),
        linear(f"{name}.{names.up}", inner, width, reads),
        linear(f"{name}.{names.down}", width, inner, f"{name}.out", adds),
    ]


def mlp_tensors(spec: ModelSpec, index: int) -> list[TensorSpec]:
    """The MLP of layer `index`, whatever it is, in the order it is used."""
    layer, width, experts = f"model.layers.{index}", spec.hidden_size, spec.experts
    if experts is None or not experts.mixed(index):
        name, adds = f"{layer}.mlp", not spec.post_norms
        matrices = gated_mlp(name, width, spec.intermediate_size, f"{name}.in", adds=adds)
        return _with_biases(spec, matrices)
    names = expert_names(spec)
    room = f"{layer}.{names.room}"
    router = TensorSpec(f"{room}.{names.router}.weight", (experts.num_experts, width), "raw")
    out = _with_biases(spec, [router])
    if experts.topk_method == "noaux_tc":
        out.append(TensorSpec(correction_name(room), (experts.num_experts,), "raw"))
    for expert in range(experts.num_experts):
        name = f"{room}.experts.{expert}"
        inner = experts.moe_intermediate_size
        out += _with_biases(spec, gated_mlp(name, width, inner, f"{name}.in", names, adds=False))
    if experts.n_shared_experts:
        name, gated = f"{room}.{names.shared}", bool(names.shared_gate)
        if gated:
            out.append(TensorSpec(f"{room}.{names.shared_gate}.weight", (1, width), "raw"))
        shared = gated_mlp(name, width, experts.shared_size, f"{name}.in", adds=not gated)
        out += _with_biases(spec, shared)
    return out


def _with_biases(spec: ModelSpec, matrices: list[TensorSpec]) -> list[TensorSpec]:
    """Each behind its matrix, where the model has any."""
    if not spec.mlp_bias:
        return matrices
    return [t for m in matrices for t in (m, bias(m.name.removesuffix(".weight"), m.shape[0]))]
