"""Los optimizadores contra torch.optim, sobre Values y sobre arrays de numpy, y sus errores."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from michigrad import nn, optim
from michigrad.engine import Value
from michigrad.optim import SGD, Adam
from tests import torch_nn
from tests.torch_nn import OPTIMIZERS, WEIGHTS

REFERENCE = json.loads(torch_nn.PATH.read_text(encoding='utf-8'))

EACH_OPTION = pytest.mark.parametrize('case', OPTIMIZERS, ids=torch_nn.key)


def close(expected: list[float]) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


@EACH_OPTION
def test_equals_recorded_pytorch(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    weights = [Value(w) for w in WEIGHTS]
    optimizer = getattr(optim, name)(weights, **options)
    after = torch_nn.weights_after_steps(optimizer, weights)
    for got, expected in zip(after, REFERENCE[torch_nn.key(case)], strict=True):
        assert got == close(expected)


@EACH_OPTION
def test_recorded_pytorch_is_up_to_date(case: tuple[str, dict[str, Any]]) -> None:
    pytest.importorskip('torch')
    for got, expected in zip(
        REFERENCE[torch_nn.key(case)], torch_nn.evaluate_optimizer(case), strict=True
    ):
        assert got == close(expected)


class Arrays:
    """Un parámetro con muchos números: data y grad son arrays."""

    def __init__(self, data: list[float]) -> None:
        self.data = np.array(data)
        self.grad: Any = np.zeros(len(data))


@EACH_OPTION
def test_drives_arrays_like_values(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    values, arrays = [Value(w) for w in WEIGHTS], Arrays(WEIGHTS)
    original = arrays.data
    drivers = [getattr(optim, name)(params, **options) for params in (values, [arrays])]
    for step in range(4):
        for driver in drivers:
            driver.zero_grad()
        for i, v in enumerate(values):
            v.grad = math.sin(step * 5 + i)
        arrays.grad = np.array([v.grad for v in values])
        for driver in drivers:
            driver.step()
        assert arrays.data.tolist() == [v.data for v in values]
    assert arrays.data is original  # los cambia en el lugar


def test_gradient_arrays_may_be_reused() -> None:
    arrays = Arrays([1.0, 2.0])
    optimizer = SGD([arrays], lr=1.0, momentum=0.5)
    grad = np.ones(2)
    arrays.grad = grad
    optimizer.step()
    grad[:] = 0  # el momentum no puede guardar este array, sino sus números
    optimizer.step()
    assert arrays.data.tolist() == [-0.5, 0.5]


def test_defaults_are_those_of_pytorch() -> None:
    adam = Adam([Value(1.0)])
    assert (adam.lr, adam.betas, adam.eps, adam.weight_decay) == (1e-3, (0.9, 0.999), 1e-8, 0)
    sgd = SGD([Value(1.0)], 0.1)
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.1, 0, False, 0)


def test_lr_can_change_during_training() -> None:
    w = Value(1.0)
    optimizer = SGD([w], lr=0.5)
    w.grad = 1.0
    optimizer.step()
    optimizer.lr *= 0.5
    optimizer.step()
    assert w.data == 0.25
    with pytest.raises(ValueError, match='lr tiene que ser'):
        optimizer.lr = -1
    assert optimizer.lr == 0.25


def test_zero_grad_and_state_stay_out_of_value() -> None:
    w = Value(1.0)
    optimizer = Adam([w])
    w.grad = 3.0
    optimizer.step()
    optimizer.zero_grad()
    assert w.grad == 0
    assert type(w.grad) is int
    assert not vars(w)


def test_accepts_any_iterable_of_parameters() -> None:
    model = nn.MLP(2, [3, 1])
    assert SGD(iter(model.parameters()), lr=0.1).params == model.parameters()


W = Value(1.0, name='w')


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: SGD([], lr=0.1), ValueError, 'params está vacía'),
        (lambda: SGD(W, lr=0.1), TypeError, r'como red.parameters\(\) o \[w, b\]'),  # type: ignore[arg-type]
        (lambda: SGD(nn.MLP(2, [1]), lr=0.1), TypeError, r'red.parameters\(\)'),  # type: ignore[arg-type]
        (lambda: SGD(None, lr=0.1), TypeError, 'llegó None'),  # type: ignore[arg-type]
        (lambda: SGD('wb', lr=0.1), TypeError, "en la posición 0 llegó 'w'"),
        (lambda: SGD([W, 0.5], lr=0.1), TypeError, 'en la posición 1 llegó 0.5'),
        (lambda: SGD([W, W], lr=0.1), ValueError, 'repetido'),
        (lambda: SGD([W * 2], lr=0.1), ValueError, r"sale de '\*'; usá Value\(v.data\)"),
        (lambda: SGD([W], lr=-0.1), ValueError, 'lr tiene que ser un número desde 0: llegó -0.1'),
        (lambda: SGD([W], lr=math.nan), ValueError, 'lr .* llegó nan'),
        (lambda: SGD([W], lr='0.1'), TypeError, "lr: se esperaba un número real y llegó '0.1'"),  # type: ignore[arg-type]
        (lambda: SGD([W], lr=10**400), OverflowError, 'lr: el número no entra'),
        (lambda: SGD([W], 0.1, momentum=-1), ValueError, 'momentum'),
        (lambda: SGD([W], 0.1, weight_decay=-1), ValueError, 'weight_decay'),
        (lambda: SGD([W], 0.1, nesterov='sí'), TypeError, "True o False: llegó 'sí'"),  # type: ignore[arg-type]
        (lambda: SGD([W], 0.1, nesterov=True), ValueError, 'nesterov necesita momentum'),
        (lambda: Adam([W], betas=(0.9, 1.0)), ValueError, 'β₂ .* y menor que 1: llegó 1.0'),
        (lambda: Adam([W], betas=0.9), TypeError, 'betas son dos números'),  # type: ignore[arg-type]
        (lambda: Adam([W], betas=(0.9,)), TypeError, 'betas son dos números'),  # type: ignore[arg-type]
        (lambda: Adam([W], eps=-1), ValueError, 'eps'),
    ],
)
def test_errors_say_what_to_write(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize('optimizer', [SGD, Adam])
@pytest.mark.parametrize(
    ('attribute', 'junk', 'error', 'message'),
    [
        ('grad', None, TypeError, 'grad del parámetro w1 tiene que ser un número: es None'),
        ('grad', 'a', TypeError, 'grad del parámetro w1'),
        ('data', [2.0], TypeError, 'data del parámetro w1'),
        ('grad', 10**400, ArithmeticError, 'demasiado grandes'),
    ],
)
def test_a_step_that_fails_changes_nothing(
    optimizer: Any, attribute: str, junk: Any, error: type[Exception], message: str
) -> None:
    params = [Value(1.0, name=f'w{i}') for i in range(3)]
    driver = optimizer(params, lr=0.1)
    for p in params:
        p.grad = 1.0
    driver.step()
    once = [p.data for p in params]
    good = getattr(params[1], attribute)
    setattr(params[1], attribute, junk)
    with pytest.raises(error, match=message):
        driver.step()
    setattr(params[1], attribute, good)
    assert [p.data for p in params] == once
    driver.step()
    assert params[0].data == params[1].data != once[0]


def test_adam_without_eps_cannot_divide_by_zero() -> None:
    w = Value(1.0)
    with pytest.raises(ArithmeticError, match='eps es 0'):
        Adam([w], eps=0).step()
    assert w.data == 1.0
