"""Los grafos con que se prueban la cinta y su traducción a JAX, y el motor que los juzga."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from tests.expressions import OPERATIONS

INF, NAN = math.inf, math.nan


def by_engine(
    build: Callable[[list[Value]], Value], inputs: list[Value], rows: Any, leaves: list[Value]
) -> tuple[list[float], list[float]]:
    """Los resultados de cada fila y la suma de los gradientes de `leaves`, con el motor."""
    for v in leaves:
        v.grad = 0
    outs = []
    for row in np.asarray(rows).tolist():
        out = build([Value(x, name=v.name) for x, v in zip(row, inputs, strict=True)])
        out.backward()
        outs.append(out.data)
    grads = [v.grad for v in leaves]
    for v in leaves:
        v.grad = 0
    return outs, grads


def hinge(model: MLP, row: list[Value]) -> Value:
    *x, y = row
    out: Value = (1 - y * model(x)).relu()
    return out


def moons(n: int, seed: int = 0) -> Any:
    """n filas (x0, x1, y), con y = ±1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return np.column_stack([x, np.sign(x[:, 0] * x[:, 1])])


# Cualquier operación, sobre Values

TABLE = {row.name: row for row in OPERATIONS}


def apply(name: str, *operands: Any) -> Any:
    return TABLE[name].function(*operands[: arity(name)])


def arity(name: str) -> int:
    return len(TABLE[name].points[0])


# Grafos al azar

Step = tuple[str, int, int]


def build_graph(steps: list[Step], leaves: list[Value]) -> Value:
    values = list(leaves)
    for name, i, j in steps:
        values.append(apply(name, values[i % len(values)], values[j % len(values)]))
    return functools.reduce(lambda a, b: a + b, values)


def gradient_scale(root: Value) -> dict[Value, float]:
    """Cuánto error de redondeo puede juntar cada gradiente: la regla de la cadena sin signos."""
    order = topological_order(root)
    scale = dict.fromkeys(order, 0.0)
    scale[root] = 1.0
    for v in reversed(order):
        for operand, slope in zip(v._prev, v._local_derivatives or (), strict=True):
            scale[operand] += max(abs(slope or 0), 1) * scale[v]
    return scale


NUMBERS = st.one_of(
    st.floats(-3, 3), st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]), st.integers(-2, 2)
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*TABLE, *['a * b', 'a + b'] * 4]),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=15,
)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-320, -1e-320, 1e160, -1e160, 30.0, -30.0, 800.0]
EDGES += [-800.0, INF, -INF, NAN]


# Sumas de productos, escritas de muchas maneras

W = [Value(x) for x in (0.3, -1.2, 0.7, 2.1, -0.4)]
CHAINS: dict[str, Callable[[list[Value]], Value]] = {
    'neurona': lambda x: sum((w * xi for w, xi in zip(W[:3], x, strict=True)), W[4]),
    'sin sesgo': lambda x: x[0] * W[0] + W[1] * x[1] + x[2] * W[2],
    'sesgo al final': lambda x: x[0] * W[0] + x[1] * W[1] + W[2],
    'al revés': lambda x: W[0] * x[0] + (W[1] * x[1] + (W[2] * x[2] + W[3])),
    'peso repetido': lambda x: W[0] * x[0] + W[0] * x[1] + W[0] * x[2] + W[0] * x[0] + W[0],
    'entrada repetida': lambda x: W[4] + W[0] * x[0] + W[1] * x[0] + W[2] * x[0].tanh() * x[0],
    'nodo repetido': lambda x: (h := x[0].tanh() * x[1], W[4] + W[0] * h + W[1] * h + h * W[0])[1],
    'producto repetido': lambda x: (h := W[0] * x[0], W[4] + W[1] * h + W[2] * h)[1],
    'el doble de un producto': lambda x: (p := W[0] * x[0], p + p + p)[1],
    'producto usado aparte': lambda x: (p := W[1] * x[1], (W[0] + W[2] * x[0] + p) * p)[1],
    'suma usada aparte': lambda x: (s := W[0] + W[1] * x[0], (s + W[2] * x[1]) * s + W[3] * x[2])[
        1
    ],
    'de a dos capas': lambda x: sum(
        (W[k] * (W[k] * x[k] + W[4]).relu() for k in range(3)), Value(1)
    ),
    'producto de entradas': lambda x: (
        x[0] * x[1] + W[0] * (x[1] * x[2]) + x[2] * x[2] + W[1] * W[2]
    ),
    'de distinto ancho': lambda x: sum(
        (
            (W[i] * a + W[i + 1] * b).tanh()
            for i, a, b in ((0, x[0], x[1]), (2, x[0], x[1]), (0, x[1], x[2]))
        ),
        Value(0),
    ),
    'cruzadas': lambda x: sum(
        ((x[i].sin() - (W[k] * x[k]).tanh()) * W[i] for i, k in ((0, 0), (1, 2), (2, 1))),
        Value(0),
    ),
    'larga': lambda x: sum((W[k % 5] * x[k % 3].sin() for k in range(23)), W[0] * W[1]),
}
