"""Derivadas de derivadas, contra PyTorch hasta el tercer orden, y de dónde sale un nan."""

from __future__ import annotations

import gc
import json
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from michigrad import engine
from michigrad.autograd import detect_anomaly, grad
from michigrad.engine import Value, topological_order
from michigrad.functional import cross_entropy, mse_loss
from michigrad.nn import Linear, Sequential, Tanh
from michigrad.tape import ParameterArray, Tape
from tests import torch_autograd
from tests.expressions import CASE_IDS, CASES, OPERATIONS, Expression
from tests.helpers import close, cube
from tests.needs import need
from tests.test_engine import build, build_values, numbers, steps
from tests.torch_autograd import derivatives, torch_grad

REFERENCE = json.loads(torch_autograd.PATH.read_text(encoding='utf-8'))

# Dónde PyTorch no da la derivada y cuántos órdenes se comparan ahí. La de a**b respecto de b se
# elige con where, y al derivarla de nuevo da nan, porque multiplica por 0 la rama que no eligió.
ARTIFACTS = {
    **{f'a ** b en {point}': 1 for point in [(0.0, 2.0), (0.0, 0.0), (-0.0, 0.5)]},
    'a ** 0.5 en (-0.0,)': 2,
}


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_every_operation_up_to_the_third_order(
    expression: Expression, point: tuple[float, ...]
) -> None:
    key = f'{expression.name} en {point}'
    leaves = [Value(x) for x in point]
    levels = derivatives(expression.function(*leaves), leaves, grad)
    for level, expected in zip(levels[: ARTIFACTS.get(key, 3)], REFERENCE[key], strict=False):
        assert [g.data for g in level] == close(expected, 1e-9)


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_recorded_pytorch_is_up_to_date(expression: Expression, point: tuple[float, ...]) -> None:
    need('torch')
    expected = torch_autograd.evaluate(expression.function, point)
    for level, recorded in zip(expected, REFERENCE[f'{expression.name} en {point}'], strict=True):
        assert recorded == close(level)


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_the_first_derivative_is_that_of_backward(
    expression: Expression, point: tuple[float, ...]
) -> None:
    leaves = [Value(x) for x in point]
    out = expression.function(*leaves)
    derivative = [g.data for g in grad(out, leaves)]
    assert [v.grad for v in leaves] == [0] * len(leaves)
    out.backward()
    assert derivative == close([v.grad for v in leaves], abs=1e-300)


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_backward_derives_a_derivative_too(
    expression: Expression, point: tuple[float, ...]
) -> None:
    """También donde la derivada es infinita, que el motor solo no sabe escribir."""
    if f'{expression.name} en {point}' in ARTIFACTS:
        return
    leaves = [Value(x) for x in point]
    for slope in grad(expression.function(*leaves), leaves):
        for v in leaves:
            v.grad = 0
        slope.backward()
        seconds = [g.data for g in grad(slope, leaves)]
        assert [v.grad for v in leaves] == close(seconds, abs=1e-300)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(numbers, min_size=1, max_size=3), st.lists(steps, min_size=1, max_size=8))
def test_random_expressions_equal_live_pytorch(data: list[float], program: list[Any]) -> None:
    torch = need('torch')
    leaves = [Value(x) for x in data]
    values, done = build_values(program, leaves)
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in data]
    out = build(program, tensors, done)[-1]
    for ours, theirs in zip(
        derivatives(values[-1], leaves, grad), derivatives(out, tensors, torch_grad), strict=True
    ):
        expected = [g.item() for g in theirs]
        # Con números enormes, que casi se cancelan, el último bit de cada biblioteca se agranda.
        assume(all(math.isfinite(x) and abs(x) < 1e6 for x in expected))
        size = max(1, *map(abs, expected))
        assert [g.data for g in ours] == close(expected, 1e-9, abs=1e-9 * size)


@pytest.mark.parametrize('expression', OPERATIONS, ids=lambda e: e.name)
def test_the_second_derivative_equals_finite_differences(expression: Expression) -> None:
    h = 1e-6
    for point in expression.points:
        smooth = all(0.1 <= abs(x) <= 10 for x in point) and len(set(point)) == len(point)
        if not smooth:  # cerca de los bordes y de los empates
            continue

        def first(*x: float) -> float:
            leaves = [Value(xi) for xi in x]
            out = expression.function(*leaves)
            out.backward()
            return leaves[0].grad

        leaves = [Value(x) for x in point]
        (slope,) = grad(expression.function(*leaves), leaves[0])
        (second,) = grad(slope, leaves[0])
        x, *rest = point
        rise = first(x + h, *rest) - first(x - h, *rest)
        assert second.data == pytest.approx(rise / (2 * h), rel=1e-5, abs=1e-6)


# Para qué sirve


def test_newton_finds_the_minimum() -> None:
    x = Value(3.0, name='x')
    for _ in range(20):
        y = (x - 1) ** 4 + x.exp()
        (slope,) = grad(y, x)
        (curvature,) = grad(slope, x)
        x.data -= slope.data / curvature.data
    assert 4 * (x.data - 1) ** 3 + math.exp(x.data) == pytest.approx(0, abs=1e-6)


def test_a_derivative_inside_a_loss_equals_pytorch() -> None:
    """El castigo a la pendiente de una red: backward deriva lo que calculó grad."""
    torch = need('torch')
    model = Sequential(Linear(2, 3), Tanh(), Linear(3, 1))
    point = [Value(0.5), Value(-1.0)]
    out = model(point)
    slopes = grad(out, point)
    loss = mse_loss(out, 1.0) + sum((g * g for g in slopes), Value(0.0))
    loss.backward()

    layers = [torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)]
    for layer, ours in zip(layers, (model.layers[0], model.layers[2]), strict=True):
        layer.double()
        rows = [[w.data for w in row] for row in ours.weight]
        layer.weight.data = torch.tensor(rows, dtype=torch.float64)
        layer.bias.data = torch.tensor([b.data for b in ours.bias], dtype=torch.float64)
    x = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)
    y = layers[1](torch.tanh(layers[0](x)))[0]
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    expected = (y - 1) ** 2 + (slope * slope).sum()
    expected.backward()
    assert loss.data == pytest.approx(expected.item())
    for layer, ours in zip(layers, (model.layers[0], model.layers[2]), strict=True):
        assert [[w.grad for w in row] for row in ours.weight] == close(layer.weight.grad.tolist())
        assert [b.grad for b in ours.bias] == close(layer.bias.grad.tolist())
    assert [v.grad for v in point] == close(x.grad.tolist())


def test_hessian_of_cross_entropy_is_that_of_the_formula() -> None:
    """diag(p) - p·pᵀ, con p = softmax(z): restar el máximo no la cambia."""
    z = [Value(x) for x in (0.5, -1.0, 2.0)]
    slopes = grad(cross_entropy(z, 1), z)
    hessian = [[h.data for h in grad(g, z)] for g in slopes]
    p = np.exp([v.data for v in z]) / np.exp([v.data for v in z]).sum()
    assert hessian == close((np.diag(p) - np.outer(p, p)).tolist())


def test_a_tape_records_a_derivative() -> None:
    x = Value(0.5)
    (slope,) = grad((x * 3).tanh() * x.exp() + x**3, x)
    tape = Tape(slope, inputs=[x])
    points = [-1.5, 0.0, 0.7]
    expected = []
    for at in points:
        v = Value(at)
        ((v * 3).tanh() * v.exp() + v**3).backward()
        expected.append(v.grad)
    assert tape.forward([[at] for at in points]).tolist() == close(expected)


# Cómo se comporta


def test_nobody_s_grad_changes() -> None:
    x, w = Value(2.0), Value(3.0)
    y = x * w
    y.backward()
    grads = grad(y * y, [x, y, w])
    assert [g.data for g in grads] == [36.0, 12.0, 24.0]
    assert (x.grad, w.grad, y.grad) == (3.0, 2.0, 1)


def test_inputs_may_be_one_or_several_leaves_or_results() -> None:
    x = Value(2.0)
    h = x * x
    y = h.exp() + h
    assert grad(y, h)[0].data == pytest.approx(math.exp(4) + 1)
    assert [g.data for g in grad(y, (v for v in (h, x)))] == close(
        [math.exp(4) + 1, 4 * (math.exp(4) + 1)]
    )
    assert grad(y, y)[0].data == 1.0
    assert grad(y, []) == ()
    assert [g.data for g in grad(y, [x, x])] == [grad(y, x)[0].data] * 2


def test_in_the_picture_the_first_gradient_has_a_name() -> None:
    x = Value(2.0, name='x')
    y = x**3
    assert {v.name for v in topological_order(grad(y, x)[0])} == {'x', ''}
    y.name = 'y'
    assert {v.name for v in topological_order(grad(y, x)[0])} == {'x', '', '∂y/∂y'}


def test_what_takes_no_part_has_derivative_zero() -> None:
    x, other = Value(2.0), Value(5.0)
    (slope, zero) = grad(3 * x, [x, other])
    assert (slope.data, zero.data) == (3.0, 0.0)
    assert grad(slope, x)[0].data == 0.0


def test_only_the_path_to_the_inputs_is_built() -> None:
    x, w = Value(2.0), [Value(1.0) for _ in range(100)]
    out = x * x
    for wi in w:
        out = out + wi * wi.exp()
    assert len(topological_order(grad(out, x)[0])) <= 6


def test_a_long_chain_needs_no_recursion() -> None:
    x = Value(1.0)
    out = x
    for _ in range(50_000):
        out = out * 1.0001
    assert grad(out, x)[0].data == pytest.approx(1.0001**50_000)


def test_the_graph_of_a_derivative_is_freed_at_once() -> None:
    x = Value(0.5)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(v) is Value for v in gc.get_objects())
        grad(grad((x.tanh() * x).exp(), x)[0], x)
        after = sum(type(v) is Value for v in gc.get_objects())
    finally:
        gc.enable()
    assert after == before


X = Value(2.0, name='x')
AnyGrad: Callable[..., Any] = grad


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: grad(cube(X) * 2, X), ValueError, "la operación propia 'cubo'"),
        (lambda: AnyGrad(3.0, X), TypeError, 'grad deriva un Value: llegó 3.0'),
        (lambda: AnyGrad([X], X), TypeError, 'grad deriva un Value'),
        (lambda: AnyGrad(X.exp, X), TypeError, r'te faltaron los paréntesis: exp\(\)'),
        (lambda: AnyGrad(X * 2, 3.0), TypeError, 'inputs es una lista de Values: llegó 3.0'),
        (lambda: AnyGrad(X * 2, [X, None]), TypeError, 'inputs es una lista de Values: tiene None'),
    ],
)
def test_errors_say_what_to_write(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_operation_of_ones_own_elsewhere_does_not_matter() -> None:
    w = Value(3.0)
    assert grad(cube(w) * X, X)[0].data == 27.0


@pytest.mark.parametrize(
    'build',
    [lambda x: x * x, lambda x: x.log(), lambda x: x.sqrt(), lambda x: x**3, lambda x: 1 / x],
)
@pytest.mark.parametrize('new', [5.0, 0.0, -1.0])
def test_data_that_changed_after_the_operation_is_told(build: Any, new: float) -> None:
    x = Value(2.0, name='x')
    y = build(x)
    x.data = new
    with pytest.raises(ValueError, match='algún data cambió después de hacer la cuenta'):
        grad(y, x)


# numpy


@pytest.mark.parametrize('function', ['var', 'std', 'mean', 'sum', 'prod', 'max', 'min'])
def test_reductions_of_numpy_equal_pytorch(function: str) -> None:
    torch = need('torch')
    data = [0.5, -1.0, 2.0, 3.5]
    values = [Value(x) for x in data]
    tensor = torch.tensor(data, dtype=torch.float64, requires_grad=True)
    ours = getattr(np, function)(np.array(values))
    options = {'correction': 0} if function in ('var', 'std') else {}
    theirs = getattr(torch, function)(tensor, **options)
    assert ours.data == pytest.approx(theirs.item())
    slopes = grad(ours, values)
    ours.backward()
    theirs.backward()
    assert [v.grad for v in values] == close(tensor.grad.tolist())
    assert [g.data for g in slopes] == close(tensor.grad.tolist())


# detect_anomaly: de dónde salió el nan


def diverging(self: Value) -> Value:
    """Una operación propia que da inf, y una derivada que da nan."""
    out = Value(math.inf if self.data > 1 else self.data, (self,), 'propia', name='p')

    def _backward() -> None:
        self.grad += math.nan

    out._backward = _backward
    return out


BIG, ZERO = Value(1e200, name='x'), Value(0.0, name='z')
INFINITE = BIG * BIG - 1  # una cuenta de antes


@pytest.mark.parametrize(
    ('calculate', 'message'),
    [
        (lambda: BIG * BIG, r"'\*' dio inf, con x=1e\+200 y x=1e\+200"),
        (lambda: (BIG * 1e200 - BIG * 1e200).tanh(), r"'\*' dio inf, con x=1e\+200 y 1e\+200"),
        (lambda: BIG / 1e-200, r"'/' dio inf, con x=1e\+200 y 1e-200"),
        (lambda: BIG + math.nan, r"'\+' dio nan, con x=1e\+200 y nan"),
        (lambda: diverging(BIG) + 1, r"'propia', que da p, dio inf, con x=1e\+200"),
        (lambda: diverging(BIG).backward(), r"'propia', que da p, dio inf, con x=1e\+200"),
        (lambda: INFINITE.backward(), r"'\*' dio inf, con x=1e\+200 y x=1e\+200"),
        (
            lambda: ZERO.sqrt().backward(),
            r"al derivar 'sqrt', con z=0.0, el gradiente de z dio inf; el del resultado es 1.0",
        ),
        (
            lambda: ((Value(2.0) / Value(1e-300, name='d')) * 3).backward(),
            r"al derivar '/', con 2.0 y d=1e-300, el gradiente de d dio -inf; .* es 3.0",
        ),
        (
            lambda: diverging(ZERO).backward(),
            r"al derivar 'propia', con z=0.0, el gradiente de z dio nan",
        ),
        (
            lambda: (spoiled() * 2).backward(),
            r'gradiente de w dio nan; .* antes ya era nan: ¿falta zero_grad\(\)\?',
        ),
    ],
)
def test_anomaly_names_the_first_operation(calculate: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message), detect_anomaly():
        calculate()
    assert ZERO.grad == 0


def spoiled() -> Value:
    w = Value(1.0, name='w')
    w.grad = math.nan
    return w


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_anomaly_changes_nothing_where_there_is_none(
    expression: Expression, point: tuple[float, ...]
) -> None:
    def calculate() -> list[float]:
        leaves = [Value(x) for x in point]
        out = expression.function(*leaves)
        out.backward()
        return [x for v in topological_order(out) for x in (v.data, v.grad)]

    expected = calculate()
    if all(map(math.isfinite, expected)):
        with detect_anomaly():
            assert calculate() == expected
    elif all(map(math.isfinite, point)):
        with pytest.raises(RuntimeError, match=r'dio -?(inf|nan)'), detect_anomaly():
            calculate()


def test_anomaly_leaves_the_engine_as_it_was() -> None:
    node, backward = engine._node, vars(Value)['_backward']
    with detect_anomaly():
        with pytest.raises(RuntimeError), detect_anomaly():
            BIG * BIG
        with pytest.raises(RuntimeError):  # el de afuera sigue mirando
            BIG * BIG
    assert (engine._node, vars(Value)['_backward']) == (node, backward)
    assert (BIG * BIG).data == math.inf


def test_anomaly_looks_only_at_its_own_thread() -> None:
    opened, done = threading.Event(), threading.Event()

    def watch() -> None:
        with detect_anomaly():
            opened.set()
            done.wait(10)

    thread = threading.Thread(target=watch)
    thread.start()
    opened.wait(10)
    try:
        assert (BIG * BIG).data == math.inf
        ZERO.sqrt().backward()
        with pytest.raises(RuntimeError), detect_anomaly():
            BIG * BIG
        assert (BIG * BIG).data == math.inf
    finally:
        done.set()
        thread.join()
        ZERO.grad = 0


# En una cinta, además, la fila

W = Value(2.0)
ROWS = [[1.0, 2.0], [3.0, 0.0], [1e200, 1e200], [math.nan, 1.0]]


@pytest.mark.parametrize(
    ('build', 'forward', 'backward'),
    [
        (
            lambda a, b: (a * b + 1).tanh(),
            r"'\*' dio inf en la fila 2 del lote, con a=1e\+200 y b=1e\+200",
            None,
        ),
        (
            lambda a, b: (W * (a + b)).tanh(),
            r"'\+' dio nan en la fila 3 del lote, con a=nan y b=1.0",
            None,
        ),
        (
            lambda a, b: W * b.sqrt(),  # las entradas no se derivan
            None,
            None,
        ),
        (
            lambda a, b: (W * b).sqrt() * 3,
            None,
            r"al derivar 'sqrt' en la fila 1 del lote, con 0.0, el gradiente de 0.0 dio inf",
        ),
        (
            lambda a, b: W * 1e200 * 1e200 * b.sigmoid(),
            r"'\*' dio inf, con 2e\+200 y 1e\+200",  # lo mismo en todas
            None,
        ),
    ],
)
@pytest.mark.parametrize('own_array', [False, True])
def test_anomaly_in_a_tape(build: Any, forward: Any, backward: Any, own_array: bool) -> None:
    a, b = Value(1.0, name='a'), Value(1.0, name='b')
    out = build(a, b)
    inputs = [v for v in (a, b) if v in topological_order(out)]
    W.grad = 0
    weights = ParameterArray([W])
    tape = Tape(out, inputs, weights if own_array else None)
    rows = np.array(ROWS)[:, -len(inputs) :]
    with detect_anomaly():
        if forward:
            with pytest.raises(RuntimeError, match=forward):
                tape.forward(rows)
            with pytest.raises(RuntimeError, match='un forward'):
                tape.backward()
            return
        tape.forward(rows)
        if backward:
            with pytest.raises(RuntimeError, match=backward):
                tape.backward()
            assert (W.grad, weights.grad.tolist()) == (0, [0.0])
        else:
            tape.backward()
            assert math.isfinite(W.grad + weights.grad[0])


def test_a_tape_outside_says_nothing() -> None:
    a = Value(1.0)
    tape = Tape(a * a, [a])
    assert tape.forward([[1e200]]).tolist() == [math.inf]


def test_anomaly_in_a_tape_without_inputs() -> None:
    x = Value(1.0, name='x')
    tape = Tape((x * x).sqrt())
    with detect_anomaly():
        assert tape.forward() == 1.0
        tape.backward()
        x.data = 1e200
        with pytest.raises(RuntimeError, match=r"'\*' dio inf, con x=1e\+200 y x=1e\+200"):
            tape.forward()
    assert x.grad == 1.0
