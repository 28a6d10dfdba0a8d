"""Floor 3: the only door to C++. Every operation has a NumPy twin of the same name, signature and
bits.

`using("numpy")` forces the twins, `using(path)` one of the native paths of `available()`;
H2Q_KERNEL does so for a whole process. Without the extension the twins do the work and
`load_error()` says why. `kernels.references` is what their speed is held against.
"""

from h2q.kernels.layer_operands import LayerOperands, StackedLayers, StepRows
from h2q.kernels.layers import run_layers
from h2q.kernels.operations import (
    add_rms_norm,
    attention,
    clamped_swiglu,
    decode_plane,
    embed_rows,
    encode_plane,
    gather_rows,
    geglu,
    matmul_dense,
    matmul_planes,
    matmul_rounded,
    project,
    quantize,
    rms_norm,
    rope,
    rotate,
    rotate_quantize,
    softmax_top,
    swiglu,
    unrotate,
)
from h2q.kernels.paged import attend_pages, store_attend, store_pages
from h2q.kernels.paths import (
    NUMPY,
    available,
    cores,
    features,
    load_error,
    path,
    set_threads,
    threads,
    using,
)
from h2q.kernels.prepared import PlaneStack

__all__ = [
    "NUMPY",
    "LayerOperands",
    "PlaneStack",
    "StackedLayers",
    "StepRows",
    "add_rms_norm",
    "attend_pages",
    "attention",
    "available",
    "clamped_swiglu",
    "cores",
    "decode_plane",
    "embed_rows",
    "encode_plane",
    "features",
    "gather_rows",
    "geglu",
    "load_error",
    "matmul_dense",
    "matmul_planes",
    "matmul_rounded",
    "path",
    "project",
    "quantize",
    "rms_norm",
    "rope",
    "rotate",
    "rotate_quantize",
    "run_layers",
    "set_threads",
    "softmax_top",
    "store_attend",
    "store_pages",
    "swiglu",
    "threads",
    "unrotate",
    "using",
]
