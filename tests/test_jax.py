"""Pruebas de Tape.to_jax: el motor es el juez de los valores y de los gradientes."""

from __future__ import annotations

import itertools
import json
import math
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from michigrad.engine import Value, topological_order
from michigrad.functional import cross_entropy, mse_loss, softmax
from michigrad.nn import MLP
from michigrad.tape import ParameterArray, Tape
from tests.expressions import EXPRESSIONS, Expression
from tests.graphs import (
    CHAINS,
    EDGES,
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
from tests.needs import need

jax = need('jax')
jnp: Any = jax.numpy


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Como los Values. La prueba que quiera float32 pasa un array de float32."""
    jax.config.update('jax_enable_x64', True)
    yield
    jax.config.update('jax_enable_x64', False)


def batched(f: Callable[..., Any]) -> Any:
    """Los resultados de un lote y la suma de los gradientes de las hojas, en un programa."""

    def outs_and_grads(leaves: Any, rows: Any) -> Any:
        outs = jax.vmap(f, in_axes=(None, 0))
        return outs(leaves, rows), jax.grad(lambda p: outs(p, rows).sum())(leaves)

    return jax.jit(outs_and_grads)


def assert_same_as_engine(
    build: Callable[[list[Value]], Value], rows: Any, leaves: list[Value]
) -> None:
    """En float64 hasta 1e-12 y en float32 hasta 1e-5, relativo a lo más grande que se suma."""
    inputs = [Value(x) for x in np.asarray(rows)[0].tolist()]
    f, data, _ = Tape(build(inputs), inputs, ParameterArray(leaves)).to_jax()
    expected = by_engine(build, inputs, rows, leaves)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        found = batched(f)(data.astype(dtype), np.asarray(rows, dtype))
        for numbers, right in zip(found, expected, strict=True):
            assert numbers.dtype == dtype
            np.testing.assert_allclose(
                numbers, right, rtol=tolerance, atol=tolerance * np.abs(right).max()
            )


# Las mismas operaciones, con los mismos valores y gradientes


@pytest.mark.parametrize('expression', EXPRESSIONS, ids=lambda e: e.name)
def test_cada_expresion_en_sus_puntos(expression: Expression) -> None:
    # XLA redondea a 0 los números menores que 2e-308.
    tiny = sys.float_info.min
    points = [p for p in expression.points if not any(0 < abs(x) < tiny for x in p)]
    leaves = [Value(x) for x in expression.points[0]]
    f, _, _ = Tape(expression.function(*leaves), parameters=ParameterArray(leaves)).to_jax()
    if not points:
        return
    found = jax.jit(jax.vmap(jax.value_and_grad(f)))(jnp.array(points))
    for point, out, grads in zip(points, *found, strict=True):
        values = [Value(x) for x in point]
        root = expression.function(*values)
        root.backward()
        np.testing.assert_allclose(out, root.data, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(grads, [v.grad for v in values], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize('outer', ['solo', 'sqrt', 'log'])
@pytest.mark.parametrize('op', TABLE)
def test_valores_extremos(op: str, outer: str) -> None:
    """0, infinitos, nan y gigantes, también con un gradiente infinito que llega de arriba.

    Menos donde XLA se aparta: redondea a 0 los números menores que 2e-308, el 0 con que empieza una
    suma le cambia el signo a -0.0, y simplifica log(a**b) también con infinitos.
    """

    def build(*operands: Value) -> Value:
        out: Value = apply(op, *operands)
        return out if outer == 'solo' else out.sqrt() if outer == 'sqrt' else out.log()

    edges = [x for x in EDGES if outer == 'solo' or 1e-100 < abs(x) < 1e100 or x == 0]
    points, expected, tape = [], [], None
    for point in itertools.product(edges, repeat=arity(op)):
        values = [Value(x) for x in point]
        try:
            root = build(*values)
        except (ArithmeticError, ValueError):
            continue
        tiny = any(0 < abs(v.data) < sys.float_info.min for v in topological_order(root))
        if tiny or (op, str(point)) == ('a + b', '(-0.0, -0.0)'):
            continue
        tape = Tape(root, parameters=ParameterArray(values))
        root.backward()
        points.append(point)
        expected.append([root.data, *(v.grad for v in values)])
    assert tape
    f, _, _ = tape.to_jax()
    outs, grads = jax.jit(jax.vmap(jax.value_and_grad(f)))(jnp.array(points))
    for point, found, right in zip(points, np.column_stack([outs, grads]), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-300, err_msg=str(point))


@pytest.mark.parametrize('name', CHAINS)
def test_sumas_de_productos(name: str) -> None:
    def with_all(x: list[Value]) -> Value:
        return CHAINS[name](x) + sum(xi * 0 for xi in x)

    assert_same_as_engine(with_all, np.random.default_rng(0).normal(size=(5, 3)), W)


@pytest.mark.parametrize('sizes', [[5, 4, 1], [16, 16, 1], [3, 3, 3, 3, 1]])
def test_una_red(sizes: list[int]) -> None:
    random.seed(1)
    model = MLP(2, sizes)
    assert_same_as_engine(lambda row: hinge(model, row), moons(50), model.parameters())


def test_entropia_cruzada() -> None:
    random.seed(1)
    model = MLP(6, [8, 4])
    rng = np.random.default_rng(0)
    rows = np.hstack([rng.normal(size=(20, 6)), np.eye(4)[rng.integers(4, size=20)]])
    assert_same_as_engine(
        lambda row: cross_entropy(model(row[:6]), row[6:]), rows, model.parameters()
    )


def test_sin_entradas_el_grafo_de_un_lote_entero() -> None:
    """Las neuronas de todos los ejemplos: los productos de matrices tienen más de una fila."""
    random.seed(2)
    model = MLP(3, [5, 2])
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(7, 3)).tolist(), rng.normal(size=(7, 2)).tolist()
    loss = mse_loss([model(x) for x in X], Y) + sum(p**2 for p in model.parameters()) * 0.1
    f, leaves, _ = Tape(loss, parameters=ParameterArray(model.parameters())).to_jax()
    loss.backward()
    out, grads = jax.jit(jax.value_and_grad(f))(leaves)
    np.testing.assert_allclose(out, loss.data, rtol=1e-12)
    np.testing.assert_allclose(grads, [p.grad for p in model.parameters()], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize('power', [lambda w, n: w**0, lambda w, n: w**n, lambda w, n: w.relu()])
def test_ni_un_gradiente_infinito_pasa_donde_no_pasa_nada(
    power: Callable[[Value, Value], Value],
) -> None:
    x, w, n = Value(1.0), Value(0.0), Value(0.0)
    out = power(w, n)
    weights = ParameterArray([w])
    f, leaves, _ = Tape((out * x - out.data).sqrt(), [x], weights).to_jax()
    assert jax.jit(jax.grad(f))(leaves, [1.0]) == 0


def well_conditioned(root: Value) -> bool:
    """Si un error de redondeo en el medio del grafo no puede cambiar mucho el final.

    JAX suma en otro orden: cerca de 0, una relu o un abs podrían caer del otro lado.
    """
    return max(gradient_scale(root).values()) < 1e4 and all(
        v.data == 0 or 1e-3 < abs(v.data) < 1e3 for v in topological_order(root)
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=STEPS,
    params=st.lists(NUMBERS, min_size=3, max_size=3),
    rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=3),
)
def test_grafos_al_azar(steps: list[Step], params: list[float], rows: list[list[float]]) -> None:
    leaves = [Value(np.float32(p)) for p in params]
    rows = np.array(rows, dtype=np.float32).tolist()
    inputs = [Value(x) for x in rows[0]]

    def build(row: list[Value]) -> Value:
        return build_graph(steps, row + leaves)

    try:
        roots = [build([Value(x) for x in row]) for row in rows]
    except (ArithmeticError, ValueError):
        assume(False)
    assume(all(well_conditioned(root) for root in roots))
    outs, grads = by_engine(build, inputs, rows, leaves)
    f, data, _ = Tape(build(inputs), inputs, ParameterArray(leaves)).to_jax()
    scale = sum(max(gradient_scale(root).values()) for root in roots)
    size = max(abs(v.data) for root in roots for v in topological_order(root))
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        found = batched(f)(data.astype(dtype), np.array(rows, dtype))
        np.testing.assert_allclose(found[0], outs, rtol=0, atol=tolerance * scale * max(size, 1))
        np.testing.assert_allclose(found[1], grads, rtol=0, atol=tolerance * scale * max(size, 1))


def test_tambien_se_deriva_hacia_adelante_y_dos_veces() -> None:
    x = Value(0.7)
    f, leaves, _ = Tape(x**3 + x.tanh(), parameters=ParameterArray([x])).to_jax()
    slope = 1 - math.tanh(0.7) ** 2
    _, tangent = jax.jvp(f, (leaves,), (jnp.ones(1),))
    assert tangent == pytest.approx(3 * 0.7**2 + slope, rel=1e-12)
    second = 6 * 0.7 - 2 * math.tanh(0.7) * slope
    assert jax.hessian(f)(leaves).item() == pytest.approx(second, rel=1e-12)


def test_lo_que_no_tiene_resultado_da_inf_o_nan() -> None:
    x = Value(1.0)
    f, _, _ = Tape([x.log(), 1 / x, x**0.5], inputs=[x]).to_jax()
    outs = f([1.0], [0.0])
    np.testing.assert_array_equal(outs, [-math.inf, math.inf, 0.0])
    assert np.isnan(f([1.0], [-1.0])[0::2]).all()


# Las hojas


def test_con_parameters_las_hojas_son_los_parametros() -> None:
    random.seed(0)
    model = MLP(2, [3, 1])
    unused = Value(9.0, name='suelto')
    x = [Value(0.0) for _ in range(3)]
    weights = ParameterArray([unused, *model.parameters()])
    weights.data[1] = 5.0  # lo que vale es el array
    f, leaves, names = Tape(hinge(model, x), x, weights).to_jax()
    assert names == ['suelto', *model.state_dict()]
    np.testing.assert_array_equal(leaves, weights.data)
    grads = jax.grad(f)(leaves, [1.0, -1.0, 1.0])
    assert grads.shape == leaves.shape
    assert grads[0] == 0


def test_sin_parameters_son_todas_tambien_las_constantes() -> None:
    x, w, b = Value(0.0, name='x'), Value(2.0, name='w'), Value(3, name='b')
    f, leaves, names = Tape(1 - (w * x + b), inputs=[x]).to_jax()
    assert sorted(zip(names, leaves.tolist(), strict=True)) == [('', 1.0), ('b', 3.0), ('w', 2.0)]
    grads = dict(zip(names, jax.grad(f)(leaves, [5.0]).tolist(), strict=True))
    assert grads == {'': 1.0, 'w': -5.0, 'b': -1.0}


def test_las_hojas_son_las_de_ese_momento_y_la_cinta_no_se_entera() -> None:
    x, w = Value(1.0), Value(2.0)
    tape = Tape(w * w * x, inputs=[x])
    tape.forward([[3.0]])
    w.data = 5.0
    f, leaves, _ = tape.to_jax()
    w.data = 100.0
    assert f(leaves, [1.0]) == 25.0
    assert f(2 * leaves, [1.0]) == 100.0
    tape.backward()  # con los datos del forward
    assert w.grad == 12.0
    assert (w.data, x.data, x.grad) == (100.0, 1.0, 0)


def test_sin_float64_son_de_float32() -> None:
    jax.config.update('jax_enable_x64', False)
    x, w = Value(1.0), Value(0.1)
    f, leaves, _ = Tape(w * x, inputs=[x]).to_jax()
    assert leaves.dtype == jnp.float32
    assert f(leaves, np.array([3.0])).dtype == jnp.float32
    assert f([0.5], [3]) == 1.5  # también números enteros


@pytest.mark.parametrize('single', [True, False])
def test_una_raiz_o_varias(single: bool) -> None:
    x, w = Value(2.0), Value(3.0)
    roots = [w * x, x, w, w * x + w]
    f, leaves, _ = Tape(roots[0] if single else roots, inputs=[x]).to_jax()
    expected = 12.0 if single else [12.0, 4.0, 3.0, 15.0]
    np.testing.assert_array_equal(f(leaves, [4.0]), expected)
    assert f(leaves, [4.0]).shape == (() if single else (4,))


def test_la_suma_de_una_hoja_consigo_misma() -> None:
    w = Value(3.0)
    f, leaves, _ = Tape(w + w + w * w).to_jax()
    assert f(leaves) == 15.0
    assert jax.grad(f)(leaves).tolist() == [8.0]


# Lo que cuesta compilar


def instructions(root: Value, inputs: list[Value], leaves: list[Value]) -> int:
    """Cuántas operaciones sobre arrays recibe XLA."""
    f, data, _ = Tape(root, inputs, ParameterArray(leaves)).to_jax()
    lowered = jax.jit(f).lower(data, np.zeros(len(inputs)))
    return str(lowered.as_text()).count('stablehlo.')


def test_las_operaciones_no_crecen_con_el_ancho() -> None:
    counts = []
    for width in (8, 64):
        model = MLP(16, [width, 10])
        x = [Value(0.0) for _ in range(26)]
        loss = cross_entropy(model(x[:16]), x[16:])
        counts.append(instructions(loss, x, model.parameters()))
    assert counts[0] == counts[1] < 150


def test_ni_con_el_largo_de_una_suma() -> None:
    counts = []
    for n in (10, 1000):
        w = [Value(0.1) for _ in range(n)]
        counts.append(instructions(sum((v.tanh() + v * v for v in w), Value(0)), [], w))
    assert counts[0] == counts[1]


def test_una_red_ancha_y_una_honda_entran() -> None:
    random.seed(0)
    for sizes in ([256, 10], [4] * 60):
        model = MLP(64, sizes)
        x = [Value(0.0) for _ in range(64)]
        out = model(x)
        root = softmax(out)[0]
        f, leaves, _ = Tape(root, x, ParameterArray(model.parameters())).to_jax()
        assert f(leaves, np.zeros(64)) == pytest.approx(root.data, rel=1e-12)


def test_lo_que_no_depende_de_las_entradas_no_se_repite_en_cada_fila() -> None:
    x, w = Value(1.0), [Value(float(i)) for i in range(50)]
    f, leaves, _ = Tape(sum((v**2 for v in [*w, x]), Value(0)), inputs=[x]).to_jax()
    jaxpr = jax.make_jaxpr(jax.vmap(f, in_axes=(None, 0)))(leaves, np.ones((7, 1)))
    sizes = [v.aval.size for equation in jaxpr.eqns for v in equation.outvars]
    assert 50 in sizes
    assert max(sizes) < 7 * 50


def chain(n: int) -> Value:
    v = Value(0.5)
    for _ in range(n):
        v = (v + v + v).tanh()
    return v


def test_un_grafo_demasiado_largo() -> None:
    v = chain(100)
    f, leaves, _ = Tape(v).to_jax()
    assert f(leaves) == pytest.approx(v.data, rel=1e-12)
    with pytest.raises(ValueError, match=r'demasiado largo.*más de 500.*Tape\.forward'):
        Tape(chain(10_000)).to_jax()


# Los errores


def test_sin_jax_dice_como_instalarlo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'jax', None)
    monkeypatch.delitem(sys.modules, 'michigrad._jax', raising=False)
    with pytest.raises(ImportError, match=r'pip install "michigrad\[jax\]"'):
        Tape(Value(1.0) * 2).to_jax()


def test_una_hoja_que_no_es_un_numero() -> None:
    w = Value(1.0, name='w')
    tape = Tape(w * 2)
    w.data = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r'^data de w tiene que ser un número'):
        tape.to_jax()


@pytest.mark.parametrize(
    ('leaves', 'inputs', 'error', 'message'),
    [
        ([1.0], np.ones((4, 2)), ValueError, r'inputs.*\(2,\).*\(4, 2\).*vmap'),
        ([1.0], [1.0], ValueError, r'inputs.*forma \(2,\).*forma \(1,\)'),
        ([1.0], (), ValueError, r'inputs.*forma \(2,\).*forma \(0,\)'),
        ([1.0, 2.0], [1.0, 2.0], ValueError, r'leaves.*forma \(1,\).*forma \(2,\)'),
        ([1.0], [Value(1.0), Value(2.0)], TypeError, r'inputs.*llegó \[Value'),
        (None, [1.0, 2.0], TypeError, 'leaves.*llegó None'),
        ([1j], [1.0, 2.0], TypeError, 'leaves.*números reales.*complex'),
    ],
)
def test_lo_que_no_se_le_puede_pasar_a_f(
    leaves: Any, inputs: Any, error: type[Exception], message: str
) -> None:
    x, y, w = Value(1.0), Value(1.0), Value(1.0)
    f, _, _ = Tape(w * x * y, inputs=[x, y]).to_jax()
    with pytest.raises(error, match=message):
        f(leaves, inputs)


# Ida y vuelta


@pytest.mark.parametrize('arrays', [True, False])
def test_entrenar_en_jax_y_traer_los_pesos(arrays: bool) -> None:
    """Las mismas pérdidas que con la cinta; y los pesos llegan a los Values y al JSON."""
    random.seed(5)
    model = MLP(2, [4, 1])
    x = [Value(0.0) for _ in range(3)]
    weights = ParameterArray(model.parameters())
    loss = hinge(model, x)
    tape = Tape(loss, x, weights if arrays else None)
    batch = moons(20)
    f, leaves, names = tape.to_jax()
    trained = np.array([name != '' for name in names])  # las constantes no tienen nombre
    assert trained.sum() == len(model.parameters())

    def mean(leaves: Any) -> Any:
        return jax.vmap(f, in_axes=(None, 0))(leaves, batch).mean()

    loss_and_grads = jax.jit(jax.value_and_grad(mean))
    losses = []
    for _ in range(10):
        losses.append(float(tape.forward(batch).mean()))
        found, grads = loss_and_grads(leaves)
        assert found == pytest.approx(losses[-1], rel=1e-12)
        leaves -= 0.1 * grads * trained
        tape.load(leaves)
    assert losses[-1] < losses[0]
    assert all(type(p.data) is float for p in model.parameters())
    assert [p.grad for p in model.parameters()] == [0] * len(model.parameters())
    if arrays:
        np.testing.assert_array_equal(weights.data, leaves)
    state = json.loads(json.dumps(model.state_dict()))
    assert state == {n: float(v) for n, v in zip(names, leaves, strict=True) if n}
    _, again, _ = tape.to_jax()
    np.testing.assert_array_equal(again, leaves)


def test_load_de_float32_y_de_una_lista() -> None:
    w = [Value(0.0), Value(0.0)]
    tape = Tape(w[0] * w[1])
    tape.load(jnp.array([0.1, 2], dtype=jnp.float32))
    assert [v.data for v in w] == [float(np.float32(0.1)), 2.0]
    tape.load([3, 4])
    assert [v.data for v in w] == [3.0, 4.0]


@pytest.mark.parametrize(
    ('leaves', 'error', 'message'),
    [
        ([1.0], ValueError, r'forma \(2,\); llegó uno de forma \(1,\)'),
        ([[1.0, 2.0]], ValueError, r'llegó uno de forma \(1, 2\)'),
        ([1.0, [2.0]], ValueError, 'distinto largo'),
        (['a', 'b'], TypeError, 'números reales'),
        (None, TypeError, 'números reales'),
        ([1j, 2.0], TypeError, 'números reales'),
    ],
)
@pytest.mark.parametrize('arrays', [True, False])
def test_load_con_error_no_cambia_nada(
    leaves: Any, error: type[Exception], message: str, arrays: bool
) -> None:
    w = [Value(5.0), Value(6.0)]
    weights = ParameterArray(w)
    tape = Tape(w[0] * w[1], parameters=weights if arrays else None)
    with pytest.raises(error, match=message):
        tape.load(leaves)
    assert [v.data for v in w] == weights.data.tolist() == [5.0, 6.0]


# Muchos dispositivos

SHARDED = """
import os, random, sys
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={sys.argv[1]}'
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from michigrad.engine import Value
from michigrad.nn import MLP
from michigrad.tape import ParameterArray, Tape
from tests.graphs import hinge, moons
jax.config.update('jax_enable_x64', True)
if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
random.seed(0)
model = MLP(2, [16, 16, 1])
x = [Value(0.0) for _ in range(3)]
weights = ParameterArray(model.parameters())
tape = Tape(hinge(model, x), x, weights)
f, leaves, _ = tape.to_jax()
batch = moons(1000)
mesh = Mesh(np.array(jax.devices()), ('lote',))
copied = NamedSharding(mesh, P())
rows = jax.make_array_from_callback(batch.shape, NamedSharding(mesh, P('lote')), lambda i: batch[i])
assert len(rows.sharding.device_set) == 4 and not rows.is_fully_replicated
mean = lambda leaves, rows: jax.vmap(f, in_axes=(None, 0))(leaves, rows).mean()
step = jax.jit(jax.value_and_grad(mean), out_shardings=copied)
loss, grads = step(jax.device_put(leaves, copied), rows)
assert len(grads.sharding.device_set) == 4
np.testing.assert_allclose(loss, tape.forward(batch).mean(), rtol=1e-12)
tape.backward()
np.testing.assert_allclose(grads, weights.grad, rtol=1e-12, atol=1e-15)
tape.load(leaves - 0.1 * np.asarray(grads))
assert tape.forward(batch).mean() < float(loss)
print('iguales')
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-W', 'error', '-c', SHARDED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding='utf-8',
        cwd=Path(__file__).parents[1],
    )


def test_cuatro_dispositivos_dan_lo_mismo_que_la_cinta() -> None:
    out, err = start('4').communicate(timeout=120)
    assert out == 'iguales\n', err


def test_dos_procesos_de_dos_dispositivos_tambien() -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{free.getsockname()[1]}'
    processes = [start('2', address, str(i)) for i in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out.endswith('iguales\n'), err
