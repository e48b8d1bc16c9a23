"""Pruebas de la cinta: el motor es el juez, fila por fila."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from michigrad import _rules, optim
from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from michigrad.tape import ParameterArray, Tape
from tests.graphs import (
    CHAINS,
    EDGES,
    INF,
    NUMBERS,
    STEPS,
    TABLE,
    Step,
    W,
    apply,
    arity,
    build_graph,
    by_engine,
    gradient_scale,
    hinge,
    moons,
)
from tests.helpers import cube


def assert_same_as_engine(
    build: Callable[[list[Value]], Value], rows: Any, leaves: list[Value], rtol: float = 1e-12
) -> None:
    inputs = [Value(x) for x in np.asarray(rows)[0].tolist()]
    t = Tape(build(inputs), inputs=inputs)
    outs, grads = by_engine(build, inputs, rows, leaves)
    np.testing.assert_allclose(t.forward(rows), outs, rtol=rtol, atol=0)
    t.backward(reduction='sum')
    np.testing.assert_allclose([v.grad for v in leaves], grads, rtol=rtol, atol=1e-15)


# Los ejemplos de la documentación


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_el_ejemplo_de_la_documentacion(reduction: str) -> None:
    random.seed(0)
    model = MLP(2, [5, 4, 1])
    x0, x1, y = Value(0.0), Value(0.0), Value(1.0)
    t = Tape((1 - y * model([x0, x1])).relu(), inputs=[x0, x1, y])
    batch = moons(20)
    outs, sums = by_engine(lambda row: hinge(model, row), [x0, x1, y], batch, model.parameters())
    losses = t.forward(batch)
    assert losses.shape == (20,)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, outs, rtol=1e-12)
    t.backward(reduction=reduction)
    grads = np.array(sums) / (20 if reduction == 'mean' else 1)
    np.testing.assert_allclose([p.grad for p in model.parameters()], grads, rtol=1e-12, atol=1e-15)
    t.backward(reduction=reduction)  # acumula
    np.testing.assert_allclose(
        [p.grad for p in model.parameters()], 2 * grads, rtol=1e-12, atol=1e-15
    )


def test_entrenar_con_la_cinta_da_lo_mismo_que_con_el_motor() -> None:
    losses: list[list[float]] = []
    for taped in (False, True):
        random.seed(3)
        model = MLP(2, [4, 1])
        batch = moons(12)
        x = [Value(0.0) for _ in range(3)]
        t = Tape(hinge(model, x), inputs=x)
        history = []
        for _ in range(10):
            model.zero_grad()
            if taped:
                history.append(float(t.forward(batch).mean()))
                t.backward()
            else:
                rows = [[Value(xi) for xi in row] for row in batch.tolist()]
                total = sum((hinge(model, row) for row in rows), Value(0)) / len(batch)
                total.backward()
                history.append(total.data)
            for p in model.parameters():
                p.data -= 0.1 * p.grad
        losses.append(history)
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)


# Todas las operaciones


def engine_operations() -> set[str]:
    """Los `_op` de todo lo que sabe hacer un Value, probando sus métodos uno por uno."""
    found = set()
    for name in dir(Value):
        for operands in ((), (Value(0.5),), (2,)):
            try:
                out = getattr(Value(0.5), name)(*operands)
            except TypeError:
                continue
            if isinstance(out, Value) and out._prev:
                found.add(out._op)
    return found


def test_la_tabla_de_reglas_tiene_todas_las_operaciones_del_motor() -> None:
    found = engine_operations()
    assert {'+', 'exp', '**2', '**'} <= found
    assert {'**n' if op == '**2' else op for op in found} == set(_rules.rules(np))


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(
    steps=STEPS,
    params=st.lists(NUMBERS, min_size=3, max_size=3),
    rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=4),
)
def test_grafos_al_azar(steps: list[Step], params: list[Any], rows: Any) -> None:
    """Valores y gradientes de las hojas, o el error del motor."""
    leaves = [Value(p) for p in params]
    inputs = [Value(x) for x in rows[0]]
    try:
        root = build_graph(steps, inputs + leaves)
    except (ArithmeticError, ValueError):
        assume(False)
    t = Tape(root, inputs=inputs)
    outs, scales, failed = [], np.zeros(len(leaves)), False
    for row in rows:
        try:
            out = build_graph(steps, [Value(x) for x in row] + leaves)
        except (ArithmeticError, ValueError):
            failed = True
            continue
        out.backward()
        outs.append((out.data, sum(abs(v.data * v.grad) for v in topological_order(out))))
        scale = gradient_scale(out)
        scales += [scale.get(v, 0) for v in leaves]
    grads = [v.grad for v in leaves]
    for v in leaves:
        v.grad = 0
    if failed:  # la cinta puede toparse antes con otra operación de las que fallan
        with pytest.raises((ArithmeticError, ValueError), match=r'fila \d+ del lote'):
            t.forward(rows)
        assert [v.grad for v in leaves] == [0, 0, 0]
        return
    data, sensitivity = np.array(outs).T
    assume(np.isfinite(sensitivity).all() and np.isfinite(scales).all() and max(scales) < 1e6)
    assert (np.abs(t.forward(rows) - data) <= 1e-12 * (sensitivity + np.abs(data))).all()
    t.backward(reduction='sum')
    assert (np.abs(np.array([v.grad for v in leaves]) - grads) <= 1e-12 * scales).all()


def record_somewhere(
    build: Callable[[list[Value]], Value], inputs: int
) -> tuple[Tape, list[Value]]:
    """Graba `build` en el primer punto donde tiene resultado."""
    for point in itertools.product([1.5, -1.5], repeat=inputs):
        xs = [Value(x) for x in point]
        with contextlib.suppress(ValueError):
            return Tape(build(xs), inputs=xs), xs
    raise AssertionError('no hay dónde grabarla')


@pytest.mark.parametrize('outer', ['solo', 'sqrt', 'log'])
@pytest.mark.parametrize('op', TABLE)
def test_valores_extremos(op: str, outer: str) -> None:
    """0, infinitos, nan y gigantes, también con un gradiente infinito que llega de arriba."""
    p, q = Value(1.0), Value(0.5)

    def build(row: list[Value]) -> Value:
        operands = [w * x for w, x in zip((p, q), row, strict=False)]
        out: Value = apply(op, *operands)
        return out if outer == 'solo' else out.sqrt() if outer == 'sqrt' else out.log()

    t, xs = record_somewhere(build, arity(op))
    rows = list(itertools.product(EDGES, repeat=arity(op)))
    for row in rows:
        p.grad = q.grad = 0
        try:
            (out,), grads = by_engine(build, xs, [row], [p, q])
        except (ArithmeticError, ValueError) as error:
            with pytest.raises(type(error), match=r'\(fila 0 del lote\)$'):
                t.forward([row])
            continue
        np.testing.assert_allclose(t.forward([row]), [out], rtol=1e-12, err_msg=str(row))
        t.backward()
        np.testing.assert_allclose([p.grad, q.grad], grads, rtol=1e-12, err_msg=str(row))


def test_relu_no_deja_pasar_ni_un_gradiente_infinito() -> None:
    w, x = Value(1.0), Value(0.0)
    t = Tape((w * x).relu().sqrt(), inputs=[x])
    t.forward([[0.0]])
    t.backward()
    assert w.grad == 0


def test_tampoco_pasa_por_un_exponente_0() -> None:
    x, w, n = Value(1.0), Value(2.0), Value(0.0)
    for power in (w**0, w**n):
        t = Tape((power * x - 1).sqrt(), inputs=[x])
        t.forward([[1.0]])
        t.backward()
        assert w.grad == 0


def test_un_infinito_bien_habido_no_es_un_error() -> None:
    x, w = Value(1.0), Value(2.0)
    t = Tape((w * x).exp() / 2 + x.exp(), inputs=[x])
    np.testing.assert_array_equal(t.forward([[INF], [-INF], [0.0]]), [INF, 0.0, 1.5])


# Las sumas de productos que se ejecutan como una sola instrucción


@pytest.mark.parametrize('name', CHAINS)
@pytest.mark.parametrize('size', [1, 5, 40])
def test_sumas_de_productos(name: str, size: int) -> None:
    rows = np.random.default_rng(0).normal(size=(size, 3))
    build = CHAINS[name]

    def with_all(x: list[Value]) -> Value:
        return build(x) + sum(xi * 0 for xi in x)

    assert_same_as_engine(with_all, rows, W)


def dot(w: list[Value], x: list[Value]) -> Value:
    return sum((a * b for a, b in zip(w, x, strict=True)), Value(0.0))


def windows(x: list[Value], size: int) -> list[list[Value]]:
    return [x[i : i + size] for i in range(len(x) - size + 1)]


def softmax(xs: list[Value]) -> list[Value]:
    exps = [x.exp() for x in xs]
    total = sum(exps[1:], exps[0])
    return [e / total for e in exps]


def attention(x: list[Value], w: list[Value]) -> Value:
    """Causal: la cantidad de términos es otra en cada posición."""
    tokens = [x[i : i + 2] for i in (0, 2, 4)]
    rows = w[:2], w[2:4]
    q, k, v = ([[dot(row, t).tanh() for row in rows] for t in tokens] for _ in range(3))
    outs = [
        dot(softmax([dot(q[t], k[s]) for s in range(t + 1)]), [v[s][c] for s in range(t + 1)])
        for t in range(3)
        for c in range(2)
    ]
    return dot(w[4:10], outs)


def residual(x: list[Value], w: list[Value]) -> Value:
    for _ in range(3):  # las mismas matrices en cada capa
        x = [xi + dot(w[2 * i : 2 * i + 6], x) + w[i] for i, xi in enumerate(x)]
        x = [xi * w[0] for xi in [v.tanh() for v in x]]
    return sum(x, Value(0.0))


def norm(x: list[Value], w: list[Value]) -> Value:
    """Cada número por la escala de su vector: uno de los operandos se repite."""
    vectors = [[a * w[i] + b for i, a in enumerate(x)] for b in w[:4]]
    scales = [(dot(v, v) / len(v) + 1e-5) ** -0.5 for v in vectors]
    normed = [[vi * s for vi in v] for v, s in zip(vectors, scales, strict=True)]
    return sum((abs(dot(w[:6], v)) for v in normed), Value(0.0))


# Redes que no son una capa detrás de otra. Todas usan seis entradas y dieciséis parámetros.
SHAPES: dict[str, Callable[[list[Value], list[Value]], Value]] = {
    'convolución': lambda x, w: dot(
        w[4:7], [dot(w[:4], window).relu() + w[8] for window in windows(x, 4)]
    ),
    'ventanas al revés': lambda x, w: dot(
        w[4:7], [dot(w[:4], window[::-1]) for window in windows(x[::-1], 4)]
    ),
    'los mismos pesos en dos capas': lambda x, w: dot(
        w[:6], [dot(w[i : i + 6], x).tanh() for i in range(6)]
    ),
    'dos redes sobre las mismas entradas': lambda x, w: (
        dot(w[:6], x).sigmoid() * dot(w[6:12], x).sin() + dot(w[:6], x)
    ),
    'abanico': lambda x, w: sum(
        (dot(w[i : i + n], x[:n]).tanh() for n in range(1, 7) for i in range(0, 8, 3)), Value(0.0)
    ),
    'productos entre entradas': lambda x, w: sum(
        (a * b * w[(i + j) % 16] for i, a in enumerate(x) for j, b in enumerate(x)), Value(0.0)
    ),
    'operandos de los dos espacios': lambda x, w: sum(
        (
            (a * x[i % 6] + b) / (a * a + 1)
            - (b - x[i % 6]).maximum(a * b) * (a if i % 2 else x[0])
            for i, (a, b) in enumerate(itertools.pairwise(w))
        ),
        Value(0.0),
    ),
    'cadena': lambda x, w: functools.reduce(lambda v, u: (v * w[0]).tanh() + u * w[1], x * 5),
    'exponentes': lambda x, w: sum(
        (
            (xi * xi + abs(wi) + 1) ** n
            for xi, wi, n in zip(x, w, (2, 0.5, -1, 3, -0.5, 0), strict=False)
        ),
        Value(0.0),
    ),
    'una constante en cada lugar': lambda x, w: sum(
        ((xi - 0.5) * wi + i - 2 * xi for i, (xi, wi) in enumerate(zip(x, w, strict=False))),
        Value(0.0),
    ),
    'atención': attention,
    'residual': residual,
    'norma': norm,
}


@pytest.mark.parametrize('arrays', [False, True])
@pytest.mark.parametrize('name', SHAPES)
def test_redes_de_otras_formas(name: str, arrays: bool) -> None:
    rng = np.random.default_rng(0)
    w = [Value(x) for x in rng.normal(size=16).tolist()]
    x = [Value(0.5) for _ in range(6)]

    def build(row: list[Value]) -> Value:
        return SHAPES[name](row, w) + sum(wi * 0 for wi in w) + sum(xi * 0 for xi in row)

    weights = ParameterArray(w[::-1]) if arrays else None
    t = Tape(build(x), inputs=x, parameters=weights)
    for size in (5, 1, 40):
        rows = rng.normal(size=(size, 6))
        outs, grads = by_engine(build, x, rows, w)
        scale = max(map(abs, [*outs, *grads]))
        np.testing.assert_allclose(t.forward(rows), outs, rtol=1e-12, atol=1e-12 * scale)
        t.backward(reduction='sum')
        found = weights.grad[::-1] if weights else [v.grad for v in w]
        np.testing.assert_allclose(found, grads, rtol=1e-12, atol=1e-12 * scale)
        if weights:
            weights.grad = 0
        for v in w:
            v.grad = 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_capas_al_azar(seed: int, widths: list[int], sizes: list[int]) -> None:
    """Capas que leen, en cualquier orden, parte de lo anterior, con pesos que se pisan."""
    w = [Value(x) for x in np.random.default_rng(seed).normal(size=12).tolist()]

    def build(row: list[Value]) -> Value:
        rng, known = random.Random(seed), list(row)
        for width in widths:
            read = rng.sample(known, rng.randint(1, len(known)))
            start, step = rng.randrange(12), rng.choice([1, 1, 2, -1])
            layer = []
            for j in range(width):
                taken = [w[(start + j * len(read) + step * k) % 12] for k in range(len(read))]
                z = dot(taken, read) + rng.choice([w[j], known[0], 1.0])
                layer.append(rng.choice([z, z.tanh(), z.relu(), z * known[-1]]))
            known += layer
        return sum((v.sin() for v in known), Value(0.0)) + sum(w) * 0

    x = [Value(0.5) for _ in range(3)]
    t = Tape(build(x), inputs=x)
    for size in sizes:
        rows = np.random.default_rng(seed + size).normal(size=(size, 3))
        outs, grads = by_engine(build, x, rows, w)
        scale = max(map(abs, [*outs, *grads]))
        assume(scale < 1e3)
        np.testing.assert_allclose(t.forward(rows), outs, rtol=0, atol=1e-11 * scale)
        t.backward(reduction='sum')
        np.testing.assert_allclose([v.grad for v in w], grads, rtol=0, atol=1e-10 * scale)
        for v in w:
            v.grad = 0


@pytest.mark.parametrize('name', SHAPES)
def test_un_lote_entero_en_un_solo_grafo(name: str) -> None:
    """Sin entradas: las constantes de todos los ejemplos están en el grafo."""
    rng = np.random.default_rng(1)
    w = [Value(x) for x in rng.normal(size=16).tolist()]

    def build() -> Value:
        rows = np.random.default_rng(2).normal(size=(5, 6)).tolist()
        return sum((SHAPES[name]([Value(x) for x in row], w) for row in rows), Value(0.0))

    t = Tape(build())
    for v in w:
        v.data += 0.25
    root = build()
    root.backward()
    expected = np.array([v.grad for v in w])
    scale = max(abs(root.data), np.abs(expected).max())
    assert t.forward() == pytest.approx(root.data, rel=1e-12, abs=1e-12 * scale)
    t.backward()
    found = np.array([v.grad for v in w])
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-12, atol=1e-12 * scale)


def test_lo_grande_se_cancela_en_otro_orden() -> None:
    """La salvedad del docstring de Tape: 1e16 + 1 - 1e16, como suma de productos."""
    x = [Value(1.0) for _ in range(3)]
    w = [Value(1e16), Value(1.0), Value(-1e16)]
    root = dot(w, x)
    assert root.data == 0.0  # de izquierda a derecha
    assert Tape(root, inputs=x).forward([[1.0, 1.0, 1.0]])[0] in (0.0, 1.0, 2.0)


def test_una_suma_que_tambien_es_resultado() -> None:
    x, w = Value(0.0), Value(3.0)
    partial = w + w * x
    product = w * x
    t = Tape([partial, partial + product, product], inputs=[x])
    np.testing.assert_array_equal(t.forward([[2.0], [-1.0]]), [[9, 15, 6], [0, -3, -3]])


# Qué significa grabar


def test_las_ramas_quedan_como_al_grabar() -> None:
    x = Value(2.0)
    out = x * 10 if x > 0 else -x
    assert Tape(out, inputs=[x]).forward([[-1.0]]) == [-10.0]


def test_las_hojas_se_leen_en_cada_forward() -> None:
    x, w, constant = Value(1.0), Value(2.0), Value(5.0)
    t = Tape(w * x + constant * constant, inputs=[x])
    assert t.forward([[3.0]]) == [31.0]
    w.data, constant.data = -1, 2  # también enteros
    assert t.forward([[3.0]]) == [1.0]


def test_backward_usa_los_datos_del_forward() -> None:
    x, w = Value(1.0), Value(2.0)
    t = Tape(w * w * x, inputs=[x])
    t.forward([[3.0]])
    w.data = 100.0
    for times in (1, 2):
        t.backward(reduction='sum')
        assert w.grad == times * 12.0


def test_no_toca_las_entradas_ni_los_nodos_intermedios() -> None:
    x, w = Value(1.0), Value(2.0)
    middle = w * x
    root = middle.tanh()
    t = Tape(root, inputs=[x])
    t.forward([[5.0]])
    t.backward()
    assert [(v.data, v.grad) for v in (x, middle)] == [(1.0, 0), (2.0, 0)]
    assert (root.data, root.grad) == (math.tanh(2), 0)


# Sin entradas, y con varios resultados


def test_sin_entradas_repite_un_grafo() -> None:
    w = [Value(x) for x in (0.5, 2, -1.5)]
    root = (w[0] * w[1] + w[2] ** 2 + w[0] / w[1]).tanh() * 3 + 2 ** w[0]
    t = Tape(root)
    w[0].data, w[1].data = -0.25, 3
    out = t.forward()
    again = (w[0] * w[1] + w[2] ** 2 + w[0] / w[1]).tanh() * 3 + 2 ** w[0]
    assert out == root.data == pytest.approx(again.data, rel=1e-12)
    assert type(out) is float
    again.backward()
    expected = [v.grad for v in w]
    t.backward()
    t.backward()
    assert [v.grad for v in w] == pytest.approx([3 * g for g in expected], rel=1e-12)


def test_el_mismo_grafo_que_root_backward() -> None:
    """También las constantes reciben su gradiente, como en el motor."""
    w, constant = Value(3.0), Value(2.0)
    t = Tape(constant * w)
    t.forward()
    t.backward()
    assert (w.grad, constant.grad) == (2.0, 3.0)


def test_una_hoja_sola() -> None:
    v = Value(3)
    t = Tape(v)
    assert t.forward() == 3.0
    t.backward()
    assert v.grad == 1


def test_una_entrada_puede_ser_el_resultado() -> None:
    x = Value(3.0)
    t = Tape(x, inputs=[x])
    np.testing.assert_array_equal(t.forward([[1], [2]]), [1, 2])
    t.backward()
    assert x.grad == 0


def test_varios_resultados() -> None:
    random.seed(0)
    model = MLP(2, [4, 3])
    x = [Value(0.0), Value(0.0)]
    fixed = model.parameters()[0] * 2
    t = Tape([*model(x), fixed, x[1]], inputs=x)
    rows = np.random.default_rng(0).normal(size=(30, 2))
    expected = [[*(z.data for z in model(row)), fixed.data, row[1]] for row in rows.tolist()]
    np.testing.assert_allclose(t.forward(rows), expected, rtol=1e-12)
    many = np.tile(rows, (200, 1))  # varios bloques
    np.testing.assert_allclose(t.forward(many), np.tile(expected, (200, 1)), rtol=1e-12)
    with pytest.raises(RuntimeError, match='lista'):
        t.backward()


def test_varios_resultados_sin_entradas() -> None:
    a, b = Value(2.0), Value(5.0)
    total, product = a + b, a * b
    t = Tape([total, product])
    a.data = 3.0
    np.testing.assert_array_equal(t.forward(), [8, 15])
    assert (total.data, product.data) == (8, 15)


# El lote


@pytest.mark.parametrize(
    'batch',
    [
        [[1, 2], [3, 4]],
        ((True, False),),
        np.array([[1, 2], [3, 4]], dtype=np.uint8),
        np.array([[1.5, 2.5]], dtype=np.float32),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(24.0).reshape(4, 6)[::2, ::3],
        np.broadcast_to(np.array([[1.0, 2.0]]), (5, 2)),
    ],
)
def test_un_lote_es_cualquier_matriz_de_numeros(batch: Any) -> None:
    x, y, w = Value(0.0), Value(0.0), Value(2.0)
    rows = np.asarray(batch, dtype=float)
    t = Tape(w * x - y, inputs=[x, y])
    np.testing.assert_array_equal(t.forward(batch), 2 * rows[:, 0] - rows[:, 1])
    t.backward()
    assert w.grad == pytest.approx(rows[:, 0].mean())


@pytest.mark.parametrize(
    ('batch', 'error', 'message'),
    [
        (None, TypeError, r'forma \(filas, 2\): forward\(lote\)'),
        ([1.0, 2.0], ValueError, r'llegó uno de forma \(2,\)'),
        ([[1.0], [2.0]], ValueError, r'llegó uno de forma \(2, 1\)'),
        (np.ones((4, 3)), ValueError, r'llegó uno de forma \(4, 3\)'),
        (np.ones((2, 2, 2)), ValueError, r'llegó uno de forma \(2, 2, 2\)'),
        (np.ones((0, 2)), ValueError, 'sin filas'),
        ([], ValueError, r'forma \(0,\)'),
        ([[1.0, 2.0], [3.0]], ValueError, 'distinto largo'),
        ([['1', '2']], TypeError, r"números reales; llegó \[\['1', '2'\]\]"),
        ([[1j, 2.0]], TypeError, r'llegó \[\[1j, 2.0\]\]'),
        ([[Value(1.0), Value(2.0)]], TypeError, r'llegó \[\[Value'),
    ],
)
def test_un_lote_que_no_sirve(batch: Any, error: type, message: str) -> None:
    x, y = Value(0.0), Value(0.0)
    t = Tape(x * y, inputs=[x, y])
    t.forward([[1.0, 2.0]])
    with pytest.raises(error, match=message):
        t.forward(batch)


def test_sin_entradas_no_va_lote() -> None:
    with pytest.raises(TypeError, match='sin lote'):
        Tape(Value(1.0) + 1).forward([[1.0]])


@pytest.mark.parametrize('size', [1, 2, 7, 64, 65, 300, 5000])
def test_un_lote_de_cualquier_tamano(size: int) -> None:
    """Los grandes se calculan en varios bloques. Una misma cinta recibe lotes de varios tamaños."""
    random.seed(0)
    model = MLP(2, [3, 1])
    x = [Value(0.0) for _ in range(3)]
    t = Tape(hinge(model, x), inputs=x)
    for rows in (moons(size), moons(3), moons(size + 1), moons(size, seed=1)):
        outs, grads = by_engine(lambda row: hinge(model, row), x, rows, model.parameters())
        np.testing.assert_allclose(t.forward(rows), outs, rtol=1e-12)
        for times in (1, 2):
            t.backward(reduction='sum')
            found = np.array([p.grad for p in model.parameters()]) / times
            np.testing.assert_allclose(found, grads, rtol=1e-12, atol=1e-12)
        model.zero_grad()


@pytest.mark.parametrize('size', [50, 5000])
def test_los_mismos_bits_cada_vez(size: int) -> None:
    random.seed(0)
    model = MLP(2, [3, 1])
    x = [Value(0.0) for _ in range(3)]
    t = Tape(hinge(model, x), inputs=x)
    batch = moons(size)
    runs = []
    for _ in range(3):
        model.zero_grad()
        losses = t.forward(batch).tolist()
        t.backward()
        runs.append((losses, [p.grad for p in model.parameters()]))
    assert runs[0] == runs[1] == runs[2]


def test_la_memoria_no_crece_con_el_lote() -> None:
    """Aparte del lote y del resultado."""
    model = MLP(2, [3, 1])
    x = [Value(0.0) for _ in range(3)]
    extra = []
    for size in (50_000, 500_000):
        t = Tape(hinge(model, x), inputs=x)
        batch = moons(size)
        tracemalloc.start()
        losses = t.forward(batch)
        t.backward()
        extra.append(tracemalloc.get_traced_memory()[1] - losses.nbytes)
        tracemalloc.stop()
    assert extra[1] < 1.5 * extra[0] < 10_000_000


# Errores


DOMAIN = [
    ('log', lambda x, w: (w * x).log(), 0.0, ValueError, r'^log con 0.0: pide'),
    ('sqrt', lambda x, w: x.sqrt() * w, -1.0, ValueError, r'^sqrt con x=-1.0: pide'),
    ('/', lambda x, w: w / x, 0.0, ZeroDivisionError, r'^/ con w=2.0 y x=0.0: el divisor'),
    ('**-1', lambda x, w: x**-1 * w, 0.0, ZeroDivisionError, r'^\*\* con x=0.0 y -1.0'),
    ('**0.5', lambda x, w: x**0.5 * w, -4.0, ValueError, r'^\*\* con x=-4.0 y 0.5'),
    ('**', lambda x, w: (x + 0) ** (w / 3), -8.0, ValueError, r'^\*\* con -8.0 y 0.66'),
    ('potencia gigante', lambda x, w: x**200 * w, 1e9, OverflowError, r'^\*\* con x=1.*1\.8e308'),
    ('exp', lambda x, w: (w * x).exp(), 400.0, OverflowError, r'^exp con 800.0: .*1\.8e308'),
    ('sin', lambda x, w: x.sin() * w, INF, ValueError, r'^sin con x=inf: el ángulo'),
    ('cos', lambda x, w: x.cos() * w, -INF, ValueError, r'^cos con x=-inf: el ángulo'),
]


@pytest.mark.parametrize(
    ('build', 'bad', 'error', 'message'), [row[1:] for row in DOMAIN], ids=[r[0] for r in DOMAIN]
)
@pytest.mark.parametrize('size', [600, 40_000])
def test_una_operacion_sin_resultado(
    build: Callable[[Value, Value], Value],
    bad: float,
    error: type[Exception],
    message: str,
    size: int,
) -> None:
    """El error del motor, con la fila, también en un lote de varios bloques."""
    x, w = Value(1.0, name='x'), Value(2.0, name='w')
    t = Tape(build(x, w), inputs=[x])
    rows = np.ones((size, 1))
    t.forward(rows)
    rows[size - 83] = rows[size - 70] = bad
    with pytest.raises(error, match=message) as info:
        t.forward(rows)
    assert str(info.value).endswith(f'(fila {size - 83} del lote)')
    assert (w.data, w.grad, x.data) == (2.0, 0, 1.0)
    with pytest.raises(RuntimeError, match='forward'):
        t.backward()


def test_una_operacion_sin_resultado_fuera_del_lote() -> None:
    w = Value(1.0, name='w')
    root = w.log() + 1
    root._prev[0].name = 'pérdida'
    t = Tape(root)
    w.data = -2
    with pytest.raises(ValueError, match=r'^pérdida: log con w=-2.0: .*épsilon$'):
        t.forward()
    assert root.data == 1.0


NOT_NUMBERS = [None, '3', [1.0], np.array([1.0]), 1j, Value(2.0), 10**400]


@pytest.mark.parametrize('wrong', NOT_NUMBERS, ids=lambda x: type(x).__name__)
def test_un_dato_que_no_es_un_numero(wrong: Any) -> None:
    x, w = Value(1.0), Value(1.0, name='w')
    tapes = [(Tape(w * 2), None), (Tape(w * x, inputs=[x]), [[2.0]])]
    w.data = wrong
    for t, batch in tapes:
        with pytest.raises((TypeError, OverflowError), match=r'^data de w tiene que') as info:
            t.forward(batch)
        assert len(str(info.value)) < 200
    with pytest.raises((TypeError, OverflowError), match=r'^data de w tiene que ser un número'):
        ParameterArray([w])


@pytest.mark.parametrize('wrong', NOT_NUMBERS, ids=lambda x: type(x).__name__)
def test_un_gradiente_que_no_es_un_numero_no_deja_nada_a_medias(wrong: Any) -> None:
    a, b, p = Value(1.0), Value(2.0, name='b'), Value(3.0)
    weights = ParameterArray([p])
    t = Tape(a * b * p, parameters=weights)
    t.forward()
    b.grad = wrong
    with pytest.raises((TypeError, OverflowError), match=r'^grad de b tiene que ser un número'):
        t.backward()
    assert (a.grad, weights.grad[0]) == (0, 0)
    b.grad = 0
    t.backward()
    assert (a.grad, b.grad, weights.grad[0]) == (6.0, 3.0, 2.0)


def renamed(v: Value) -> Value:
    v._op = 'mi suma'
    return v


# Sin tipos: son los errores de quien no los usa.
AnyTape: Any = Tape
AnyParameterArray: Any = ParameterArray
X, FREE = Value(1.0, name='x'), Value(1.0, name='suelta')


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: Tape(cube(X, 'c') * 2), ValueError, "operación propia 'cubo', que da c"),
        (lambda: Tape(cube(X)), ValueError, "operación propia 'cubo'"),
        (lambda: Tape(renamed(X + 1)), ValueError, "no conoce la operación 'mi suma'"),
        (lambda: Tape(X * 2, inputs=[FREE]), ValueError, 'entrada suelta no influye'),
        (lambda: Tape(X * 2, inputs=[X * 1]), ValueError, r"hojas, y Value\(.*operación '\*'"),
        (lambda: Tape(X * 2, inputs=[X, X]), ValueError, 'inputs tiene repetido a x'),
        (lambda: AnyTape(X * 2, inputs=X), TypeError, 'inputs es una lista de Values: llegó Value'),
        (
            lambda: AnyTape(X * 2, inputs=[1.0]),
            TypeError,
            'inputs es una lista de Values: tiene 1.0',
        ),
        (lambda: Tape([]), ValueError, 'root está vacía'),
        (lambda: AnyTape(3.0), TypeError, 'root es una lista de Values: llegó 3.0'),
        (lambda: AnyTape([X, None]), TypeError, 'root es una lista de Values: tiene None'),
        (lambda: AnyTape(X * 2, parameters=[X]), TypeError, r'ParameterArray\(model.parameters'),
        (
            lambda: Tape(X * FREE, inputs=[X], parameters=ParameterArray([X, FREE])),
            ValueError,
            'x no puede ser a la vez una entrada y un parámetro',
        ),
        (lambda: ParameterArray([]), ValueError, 'vacía'),
        (lambda: ParameterArray([X, X]), ValueError, 'parameters tiene repetido a x'),
        (lambda: ParameterArray([X * 2]), ValueError, 'parameters lleva hojas'),
        (lambda: AnyParameterArray(X), TypeError, 'parameters es una lista'),
    ],
)
def test_lo_que_no_se_puede_grabar(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_backward_sin_forward_o_con_otra_reduccion() -> None:
    t = Tape(Value(2.0) * 3)
    with pytest.raises(RuntimeError, match='antes de backward'):
        t.backward()
    with pytest.raises(ValueError, match="'mean' o 'sum': llegó 'max'"):
        t.backward(reduction='max')


# Los parámetros en arrays


def test_los_parametros_en_arrays_entrenan_igual() -> None:
    batch = moons(20)
    results = []
    for arrays in (False, True):
        random.seed(5)
        model = MLP(2, [4, 1])
        x = [Value(0.0) for _ in range(3)]
        weights = ParameterArray(model.parameters()) if arrays else None
        loss = Tape(hinge(model, x), inputs=x, parameters=weights)
        penalty = Tape(
            sum((p * p for p in model.parameters()), Value(0)) * 1e-2, parameters=weights
        )
        before = [p.data for p in model.parameters()]
        for _ in range(5):
            trained: list[Any] = [weights] if weights else model.parameters()
            for p in trained:
                p.grad = 0
            loss.forward(batch)
            penalty.forward()
            loss.backward()
            penalty.backward()
            for p in trained:
                p.data -= 0.1 * p.grad
        if weights:
            assert [p.data for p in model.parameters()] == before
            assert [p.grad for p in model.parameters()] == [0] * len(before)
            weights.write_back()
        results.append([(p.data, p.grad) for p in model.parameters()])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)
    assert type(results[1][0][0]) is float


def test_los_optimizadores_manejan_los_arrays() -> None:
    makers: list[Callable[[Any], Any]] = [
        lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9),
        lambda ps: optim.Adam(ps, lr=0.01),
    ]
    for make in makers:
        results = []
        for arrays in (False, True):
            random.seed(5)
            model = MLP(2, [4, 1])
            x = [Value(0.0) for _ in range(3)]
            weights = ParameterArray(model.parameters())
            t = Tape(hinge(model, x), inputs=x, parameters=weights if arrays else None)
            optimizer = make([weights] if arrays else model.parameters())
            for _ in range(5):
                optimizer.zero_grad()
                t.forward(moons(20))
                t.backward()
                optimizer.step()
            if arrays:
                weights.write_back()
            results.append([p.data for p in model.parameters()])
        np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


def test_data_y_grad_se_rellenan_sin_reemplazarse() -> None:
    weights = ParameterArray([Value(1), Value(2.0)])
    data, grad = weights.data, weights.grad
    weights.data = [3, 4]
    weights.grad = 5
    weights.data -= 1
    assert (data.tolist(), grad.tolist()) == ([2.0, 3.0], [5.0, 5.0])


@pytest.mark.parametrize(
    ('wrong', 'error', 'message'),
    [
        ([5.0, None], TypeError, r'forma \(2,\), de números reales; llegó \[5.0, None\]'),
        (None, TypeError, 'llegó None'),
        ('3', TypeError, "números reales; llegó '3'"),
        (['3', '4'], TypeError, 'números reales'),
        (1 + 2j, TypeError, 'números reales'),
        ([1j, 2.0], TypeError, 'números reales'),
        ([Value(1.0), Value(2.0)], TypeError, 'números reales'),
        (Value(1.0), TypeError, 'números reales'),
        ([10**5000], TypeError, 'números reales'),
        ([1.0, 2.0, 3.0], ValueError, r'forma \(2,\); llegó uno de forma \(3,\)'),
        ([1.0], ValueError, r'llegó uno de forma \(1,\)'),
        ([[1.0, 2.0]], ValueError, r'llegó uno de forma \(1, 2\)'),
        ([1.0, [2.0]], ValueError, 'distinto largo'),
    ],
)
@pytest.mark.parametrize('field', ['data', 'grad'])
def test_lo_que_no_se_puede_asignar_a_un_array(
    field: str, wrong: Any, error: type[Exception], message: str
) -> None:
    weights = ParameterArray([Value(1.0), Value(2.0)])
    weights.grad = [3.0, 4.0]
    with pytest.raises(error, match=f'^{field} es un número.*{message}') as info:
        setattr(weights, field, wrong)
    assert len(str(info.value)) < 200
    assert (weights.data.tolist(), weights.grad.tolist()) == ([1.0, 2.0], [3.0, 4.0])


def test_un_parametro_que_no_esta_en_el_grafo() -> None:
    x, used, unused = Value(1.0), Value(2.0), Value(3.0)
    weights = ParameterArray([unused, used])
    t = Tape(used * x + Value(1.0), inputs=[x], parameters=weights)
    t.forward([[4.0]])
    t.backward()
    assert weights.grad.tolist() == [0.0, 4.0]


# Varios hilos


def test_varios_hilos_con_la_misma_cinta() -> None:
    """Cada uno recibe lo suyo y deriva su forward; los gradientes se suman en las mismas hojas."""
    random.seed(0)
    model = MLP(2, [8, 8, 1])
    x = [Value(0.0) for _ in range(3)]
    t = Tape(hinge(model, x), inputs=x)
    batches = [moons(20 + k, seed=k) for k in range(6)]
    expected = [t.forward(batch).tolist() for batch in batches]
    grads = np.zeros(len(model.parameters()))
    for batch in batches:
        t.forward(batch)
        model.zero_grad()
        t.backward()
        grads += [p.grad for p in model.parameters()]
    model.zero_grad()
    ready = threading.Barrier(len(batches))

    def work(k: int) -> bool:
        ready.wait()
        right = True
        for _ in range(50):
            right = right and t.forward(batches[k]).tolist() == expected[k]
            t.backward()
        return right

    with ThreadPoolExecutor(len(batches)) as pool:
        assert all(pool.map(work, range(len(batches))))
    found = np.array([p.grad for p in model.parameters()])
    np.testing.assert_allclose(found, 50 * grads, rtol=1e-9, atol=1e-12)


def test_varias_cintas_suman_en_los_mismos_arrays() -> None:
    w = [Value(1.0) for _ in range(50_000)]
    weights = ParameterArray(w)
    tapes = [Tape(sum(w[1:], w[0]) * k, parameters=weights) for k in range(1, 5)]

    def work(t: Tape) -> None:
        for _ in range(50):
            t.forward()
            t.backward()

    with ThreadPoolExecutor(len(tapes)) as pool:
        list(pool.map(work, tapes))
    assert set(weights.grad.tolist()) == {50.0 * (1 + 2 + 3 + 4)}


def test_cada_hilo_deriva_su_propio_forward() -> None:
    x, w = Value(1.0), Value(2.0)
    t = Tape(w * x, inputs=[x])
    t.forward([[3.0]])
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match='antes de backward'):
            pool.submit(t.backward).result()
        pool.submit(t.forward, [[100.0]]).result()
    t.backward()
    assert w.grad == 3.0


# Lo que se carga, y lo que no tiene límite


@pytest.mark.parametrize('heavy', ['jax', 'numba', 'scipy'])
def test_importar_la_cinta_no_carga(heavy: str) -> None:
    code = f'import sys, michigrad.tape; sys.exit("{heavy}" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_un_grafo_hondo_no_usa_recursion() -> None:
    w = Value(1.0)
    v = w
    for _ in range(20_000):
        v = v + 1
    t = Tape(v)
    assert t.forward() == 20_001
    t.backward()
    assert w.grad == 1
