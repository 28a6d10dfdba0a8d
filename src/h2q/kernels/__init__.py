"""Floor 3: the only door to C++. Every operation has a NumPy twin of the same name, signature and
bits.

`using("numpy")` forces the twins, `using(path)` one of the native paths of `available()`;
H2Q_KERNEL does so for a whole process. Without the extension the twins do the work and
`load_error()` says why. `kernels.references` is what their speed is held against.
"""

from h2q.kernels.operations import (
    attention,
    decode_plane,
    encode_plane,
    gather_rows,
    matmul_dense,
    matmul_planes,
    quantize,
    rms_norm,
    rope,
    rotate,
    rotate_quantize,
    swiglu,
    unrotate,
)
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

__all__ = [
    "NUMPY",
    "attention",
    "available",
    "cores",
    "decode_plane",
    "encode_plane",
    "features",
    "gather_rows",
    "load_error",
    "matmul_dense",
    "matmul_planes",
    "path",
    "quantize",
    "rms_norm",
    "rope",
    "rotate",
    "rotate_quantize",
    "set_threads",
    "swiglu",
    "threads",
    "unrotate",
    "using",
]
