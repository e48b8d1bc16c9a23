"""Softmax y las pérdidas: valores y gradientes contra PyTorch, formas, reducciones y errores."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad import functional
from michigrad.engine import Value, topological_order
from michigrad.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge_loss,
    log_softmax,
    mse_loss,
    nll_loss,
    softmax,
    softplus,
)
from michigrad.nn import Tanh
from tests import torch_nn
from tests.helpers import close
from tests.needs import need
from tests.torch_nn import LOSSES, Loss

REFERENCE = json.loads(torch_nn.PATH.read_text(encoding='utf-8'))


def lift(x: Any) -> Any:
    return [lift(xi) for xi in x] if isinstance(x, list) else Value(x)


def read(x: Any, attribute: str = 'data') -> Any:
    if isinstance(x, list):
        return [read(xi, attribute) for xi in x]
    return getattr(x, attribute)


def flat(x: Any) -> list[Any]:
    return [leaf for xi in x for leaf in flat(xi)] if isinstance(x, list) else [x]


def evaluate(case: Loss) -> dict[str, Any]:
    """Lo mismo que torch_nn.evaluate_loss, con Michigrad."""
    z = lift(case.prediction)
    function = getattr(functional, case.function)
    if case.target is None:
        out = function(z)
    else:
        options = {'label_smoothing': case.smoothing} if case.smoothing else {}
        out = function(z, case.target, reduction=case.reduction, **options)
    rows = out if isinstance(out, list) and isinstance(out[0], list) else [flat(out)]
    sum(i * x for row in rows for i, x in enumerate(row, 1)).backward()
    return {'value': read(out), 'grads': read(z, 'grad')}


@pytest.mark.parametrize('case', LOSSES, ids=torch_nn.key)
def test_equals_recorded_pytorch(case: Loss) -> None:
    expected, got = REFERENCE[torch_nn.key(case)], evaluate(case)
    assert np.array(got['value']) == close(expected['value'])
    assert np.array(got['grads']) == close(expected['grads'])


@pytest.mark.parametrize('case', LOSSES, ids=torch_nn.key)
def test_recorded_pytorch_is_up_to_date(case: Loss) -> None:
    need('torch')
    expected = torch_nn.evaluate_loss(case)
    assert np.array(REFERENCE[torch_nn.key(case)]['value']) == close(expected['value'])
    assert np.array(REFERENCE[torch_nn.key(case)]['grads']) == close(expected['grads'])


LOGITS = st.one_of(st.floats(-5, 5), st.floats(-1000, 1000), st.sampled_from([0.0, 1e3, -1e3]))
PROBABILITIES = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def random_losses(draw: st.DrawFn) -> Loss:
    function = draw(st.sampled_from(sorted({case.function for case in LOSSES})))
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers, targets = LOGITS, LOGITS
    if function == 'hinge_loss':
        targets = st.sampled_from([-1.0, 1.0])
    elif function.startswith('binary'):
        targets = PROBABILITIES
        if function == 'binary_cross_entropy':
            numbers = st.floats(1e-9, 1 - 1e-9)
    prediction = [[draw(numbers) for _ in range(columns)] for _ in range(rows)]
    target: Any = [[draw(targets) for _ in range(columns)] for _ in range(rows)]
    smoothing = 0.0
    if function in torch_nn.INDICES:
        target = [draw(st.integers(0, columns - 1)) for _ in range(rows)]
    if function == 'cross_entropy':
        smoothing = draw(st.sampled_from([0.0, 0.1, 1.0]))
    if function in ('softmax', 'log_softmax', 'softplus'):
        target = None
    reduction = draw(st.sampled_from(['mean', 'sum', 'none']))
    return Loss(function, prediction, target, reduction, smoothing)


@settings(max_examples=300, deadline=None)
@given(random_losses())
def test_random_losses_equal_live_pytorch(case: Loss) -> None:
    need('torch')
    if case.function == 'hinge_loss' and any(
        z * y == 1 for z, y in zip(flat(case.prediction), flat(case.target), strict=True)
    ):
        return  # en la esquina no hay derivada y cada biblioteca elige la suya
    expected, got = torch_nn.evaluate_loss(case), evaluate(case)
    assert np.array(got['value']) == close(expected['value'])
    assert np.array(got['grads']) == close(expected['grads'])


# Precisión: donde PyTorch pierde cifras juzga math.log1p


@settings(deadline=None)
@given(st.floats(-700, 700), st.sampled_from([0, 1, 0.3]))
def test_logits_keep_their_digits(z: float, y: float) -> None:
    logit = Value(z)
    loss = binary_cross_entropy_with_logits(logit, y)
    loss.backward()
    value = y * exact_softplus(-z) + (1 - y) * exact_softplus(z)
    slope = -exact_sigmoid(-z) if y == 1 else exact_sigmoid(z) - y
    assert loss.data == pytest.approx(value, rel=1e-14, abs=0)
    assert logit.grad == pytest.approx(slope, rel=1e-13, abs=1e-15 * y * (1 - y))


def exact_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else math.exp(x)


def exact_softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


@pytest.mark.parametrize(
    ('z', 'y', 'loss', 'slope'),
    [
        (0.0, 0, math.log(2), 0.5),
        (0.0, 0.5, math.log(2), 0.0),
        (-40.0, 0, 4.248354255291589e-18, 4.248354255291589e-18),
        (math.inf, 1, 0.0, 0.0),
        (-math.inf, 0, 0.0, 0.0),
        (math.inf, 0, math.inf, 1.0),
        (-math.inf, 1, math.inf, -1.0),
        (math.inf, 0.5, math.inf, 0.5),
    ],
)
def test_logits_at_the_edges(z: float, y: float, loss: float, slope: float) -> None:
    logit = Value(z)
    out = binary_cross_entropy_with_logits(logit, y)
    out.backward()
    assert (out.data, logit.grad) == (loss, slope)


@settings(deadline=None)
@given(st.one_of(st.floats(0, 1), st.floats(0, 1e-8), st.sampled_from([1e-13, 1e-17, 5e-324])))
def test_a_small_probability_keeps_its_digits(p: float) -> None:
    probability = Value(p)
    loss = binary_cross_entropy(probability, 0)
    loss.backward()
    assert loss.data == pytest.approx(-math.log1p(-p) if p < 1 else 100, rel=1e-13, abs=0)
    assert probability.grad == pytest.approx(1 / (1 - p) if p < 1 else 0, rel=1e-13, abs=0)


def test_log_softmax_has_no_log_of_zero() -> None:
    z = [Value(0.0), Value(800.0)]
    with pytest.raises(ValueError, match='log con 0'):
        softmax(z)[0].log()
    out = log_softmax(z)
    assert [v.data for v in out] == [-800.0, 0.0]
    assert log_softmax(5.0).data == 0.0
    nll_loss(out, 0).backward()
    assert [v.grad for v in z] == [-1.0, 1.0]


# Lo que entra


@pytest.mark.parametrize(
    'wrap', [iter, tuple, np.array, lambda x: map(float, x), lambda x: dict(enumerate(x)).values()]
)
def test_any_iterable_is_read_once(wrap: Any) -> None:
    z, y = [0.5, 0.2], [1.0, 0.0]
    for loss in (mse_loss, binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy):
        expected = loss(z, y).data
        assert loss(wrap(z), wrap(y)).data == expected
        assert loss([wrap(z)], iter([wrap(y)])).data == pytest.approx(expected, rel=1e-15)
    for function in (softmax, log_softmax, softplus):
        assert read(function(wrap(z))) == read(function(z))


def test_none_keeps_the_shape() -> None:
    assert isinstance(mse_loss(1.0, 0.0, reduction='none'), Value)
    assert read(mse_loss([1.0, 3.0], [0.0, 0.0], reduction='none')) == [1.0, 9.0]
    assert read(mse_loss([[1.0], [3.0]], [[0.0], [0.0]], reduction='none')) == [[1.0], [9.0]]
    assert len(cross_entropy([[1.0, 2.0]] * 3, [0, 1, 1], reduction='none')) == 3
    assert mse_loss([], [], reduction='none') == []


def test_softmax_is_a_probability_distribution() -> None:
    probabilities = softmax([3, Value(-1.0), np.float64(0.5)])
    assert sum(p.data for p in probabilities) == pytest.approx(1)
    assert probabilities[0] > probabilities[2] > probabilities[1]
    assert softmax(Value(5.0)).data == 1.0


@pytest.mark.parametrize(
    ('loss', 'prediction', 'target'),
    [
        (mse_loss, [0.5, 2.0], [1.0, -1.0]),
        (hinge_loss, [0.5, -2.0], [1, -1]),
        (binary_cross_entropy, [0.5, 0.2], [1.0, 0.0]),
        (binary_cross_entropy_with_logits, [0.5, -2.0], [1.0, 0.0]),
        (cross_entropy, [0.5, -2.0], [0.75, 0.25]),
    ],
)
def test_numbers_values_tuples_and_arrays_give_the_same(
    loss: Any, prediction: list[float], target: list[float]
) -> None:
    expected = loss(prediction, target).data
    assert isinstance(expected, float)
    values = [Value(x) for x in prediction]
    for p in (tuple(prediction), np.array(prediction), values, np.array(values)):
        for t in (tuple(target), np.array(target), [Value(y) for y in target]):
            assert loss(p, t).data == expected
    batch = loss(np.array([values, values]), [target, target], reduction='sum')
    assert batch.data == pytest.approx(
        2 * expected * (1 if loss is cross_entropy else 2), rel=1e-12
    )


def test_mean_is_the_sum_over_the_count() -> None:
    logits, target = [[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]], [0, 1, 1]
    total = cross_entropy(logits, target, reduction='sum')
    assert cross_entropy(logits, target).data == total.data / 3
    assert mse_loss([1.0, 3.0], [0.0, 0.0]).data == 5.0
    assert mse_loss([1.0, 3.0], [0.0, 0.0], reduction='sum').data == 10.0


def test_gradient_reaches_a_target_that_is_a_value() -> None:
    target = Value(2.0)
    mse_loss(Value(5.0), target).backward()
    assert target.grad == -6.0


@pytest.mark.parametrize(
    ('p', 'y', 'loss'),
    [(0.0, 1, 100.0), (1.0, 0, 100.0), (0.0, 0, 0.0), (1.0, 1, 0.0), (1e-60, 1, 100.0)],
)
def test_log_of_a_probability_is_clamped_at_minus_100(p: float, y: int, loss: float) -> None:
    probability = Value(p)
    out = binary_cross_entropy(probability, y)
    assert out.data == pytest.approx(loss)
    out.backward()
    assert math.isfinite(probability.grad)
    assert (probability.grad == 0) is (loss == 100)


def test_cross_entropy_uses_few_nodes() -> None:
    logits = [Value(float(i)) for i in range(10)]
    nodes = topological_order(cross_entropy(logits, 3))
    assert len(nodes) - len(logits) == 10 + 10 + 9 + 3  # -, exp, +; máximo, log y la resta final
    assert len(topological_order(binary_cross_entropy_with_logits(Value(1.0), 1))) == 3


# Lo que no entra

LOOP: list[Any] = [1.0]
LOOP.append(LOOP)

VALUES_OUT_OF_PLACE = [
    (lambda: mse_loss([1.0], [1.0, 2.0]), ValueError, 'una lista de 1 y una lista de 2'),
    (lambda: mse_loss([1.0], 1.0), ValueError, 'una lista de 1 y un número'),
    (lambda: mse_loss([[1.0, 2.0]], [[1.0]]), ValueError, 'misma forma'),
    (lambda: mse_loss([], []), ValueError, 'al menos un ejemplo'),
    (lambda: mse_loss([[[1.0]]], [[[1.0]]]), TypeError, 'más niveles'),
    (lambda: mse_loss('3', 3.0), TypeError, "llegó '3'"),
    (lambda: mse_loss(1.0, None), TypeError, 'llegó None'),
    (lambda: mse_loss([1.0, 2.0], np.ones((2, 1))), ValueError, r'columna: usá y.ravel\(\)'),
    (lambda: hinge_loss([1.0, 2.0], [[1], [-1]]), ValueError, r'columna: usá y.ravel\(\)'),
    (lambda: cross_entropy([[1.0, 2.0]], np.array([[1]])), ValueError, r'usá y.ravel\(\)'),
    (lambda: mse_loss(1.0, np.ones(1)), ValueError, r'una lista de 1: usá y.item\(\)'),
    (lambda: mse_loss(1.0, 1.0, reduction='promedio'), ValueError, "'mean', 'sum' o 'none'"),
    (lambda: mse_loss(1.0, 1.0, reduction=None), ValueError, 'llegó None'),  # type: ignore[arg-type]
    (lambda: mse_loss(Value(1.0).exp, 1.0), TypeError, r'te faltaron los paréntesis: exp\(\)'),
    (lambda: mse_loss({1: 2}, 1.0), TypeError, 'dict'),
    (lambda: mse_loss(LOOP, LOOP), TypeError, 'más niveles'),
    (lambda: cross_entropy([1.0, 2.0], 10**5000), ValueError, 'llegó un entero de unas 5000 cif'),
    (lambda: hinge_loss(1.0, 10**300), ValueError, 'llegó un entero de unas 300 cifras'),
    (lambda: cross_entropy([1.0], 0, label_smoothing=1.5), ValueError, 'de 0 a 1: llegó 1.5'),
    (lambda: cross_entropy([1.0], 0, label_smoothing=-1), ValueError, 'label_smoothing'),
    (lambda: cross_entropy([1.0, 2.0], [0, 0]), ValueError, 'si son índices, los logits son una'),
    (lambda: nll_loss([-1.0], [1.0]), TypeError, r'el índice \(un int\) de una clase: llegó \['),
    (lambda: nll_loss(-1.0, 0), TypeError, 'una lista con uno por clase: llegó -1.0'),
    (lambda: log_softmax([]), ValueError, 'lista vacía'),
    (lambda: softplus('a'), TypeError, "llegó 'a'"),
    (lambda: mse_loss(1e200, -1e200), OverflowError, 'no entra en un float'),
    (lambda: hinge_loss(0.5, 0), ValueError, r'si es 0 o 1, usá 2\*y - 1'),
    (lambda: binary_cross_entropy(1.5, 1), ValueError, 'usá binary_cross_entropy_with_logits'),
    (lambda: binary_cross_entropy(math.nan, 1), ValueError, 'llegó nan'),
    (lambda: binary_cross_entropy(0.5, -1), ValueError, 'el objetivo está entre 0 y 1: llegó -1'),
    (lambda: binary_cross_entropy_with_logits(0.5, 2), ValueError, 'entre 0 y 1: llegó 2'),
    (lambda: cross_entropy([1.0, 2.0], 2), ValueError, 'el índice va de 0 a 1: llegó 2'),
    (lambda: cross_entropy([1.0, 2.0], -1), ValueError, 'el índice va de 0 a 1: llegó -1'),
    (
        lambda: cross_entropy([1.0, 2.0], 1.0),
        TypeError,
        r'\(un int\) de una clase o la lista de sus prob',
    ),
    (
        lambda: cross_entropy([1.0, 2.0], [1.0]),
        ValueError,
        'hay 2 clases y el objetivo es una lista de 1',
    ),
    (lambda: cross_entropy([1.0, 2.0], [3.0, 4.0]), ValueError, 'entre 0 y 1: llegó 3'),
    (lambda: cross_entropy([1.0, 2.0], [0.5, 0.1]), ValueError, 'suman 1: las que llegaron'),
    (lambda: cross_entropy([[1.0, 2.0]], 1), ValueError, 'hay 1 ejemplos'),
    (lambda: cross_entropy([[1.0, 2.0], 3.0], [0, 1]), TypeError, 'cada uno es una lista'),
    (lambda: cross_entropy(1.0, 0), TypeError, 'una lista con uno por clase: llegó 1.0'),
    (lambda: cross_entropy([], 0), ValueError, 'lista vacía'),
    (lambda: softmax([]), ValueError, 'lista vacía'),
    (lambda: softmax([1.0, 'a']), TypeError, "llegó 'a'"),
    (lambda: softmax({1: 2}), TypeError, 'dict'),
    (lambda: mse_loss([1.0, 2.0], None), TypeError, 'llegó None'),
    (lambda: nll_loss([[-1.0], [-1.0]], np.array([[0], [0]])), TypeError, r'usá y\.ravel\(\)'),
    (lambda: mse_loss([1.0, 2.0], {1: 2}), TypeError, 'llegó {1: 2}'),
    (lambda: mse_loss(Tanh(), [1.0]), TypeError, r'llegó Tanh\(\)'),
]


@pytest.mark.parametrize(('call', 'error', 'message'), VALUES_OUT_OF_PLACE)
def test_errors_say_what_to_write(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value))
    assert len(str(caught.value)) < 300


def test_a_target_that_is_a_value_may_change_later() -> None:
    """Como sus datos se pueden reemplazar después, no se los mira."""
    classes = [Value(0.0) for _ in range(3)]
    assert cross_entropy([1.0, 2.0, 3.0], classes).data == 0
    assert hinge_loss(Value(2.0), Value(0.0)).data == 1
