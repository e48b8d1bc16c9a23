"""Al lado de micrograd: lo que es igual y cada diferencia que el README anuncia."""

from __future__ import annotations

import gc
import random
from typing import Any

import micrograd.engine
import micrograd.nn
import pytest

from michigrad import engine, nn

BOTH = pytest.mark.parametrize('library', [micrograd.engine, engine], ids=lambda m: m.__name__)


def test_same_seed_same_network() -> None:
    random.seed(7)
    theirs = micrograd.nn.MLP(3, [4, 4, 1])
    random.seed(7)
    ours = nn.MLP(3, [4, 4, 1])
    assert repr(ours) == repr(theirs)
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    x = [0.5, -1.0, 2.0]
    a, b = ours(x), theirs(x)
    assert a.data == b.data  # las mismas cuentas en el mismo orden: iguales hasta el último bit
    a.backward()
    b.backward()
    expected = [p.grad for p in theirs.parameters()]
    assert [p.grad for p in ours.parameters()] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('operate', [lambda a, b: a * b, lambda a, b: engine.Value(b), max])
def test_a_value_of_the_other_library_is_told(operate: Any) -> None:
    with pytest.raises(TypeError, match='es un Value de otra copia de la clase'):
        operate(engine.Value(2.0), micrograd.engine.Value(3.0))


@BOTH
def test_two_backward_calls(library: Any) -> None:
    x = library.Value(3.0)
    out = (x * x) * 2
    out.backward()
    out.backward()
    assert x.grad == (24.0 if library is engine else 36.0)


@BOTH
def test_powers_at_zero(library: Any) -> None:
    for exponent, expected in ((0.5, float('inf')), (0, 0)):
        x = library.Value(0.0)
        out = x**exponent
        if library is engine:
            out.backward()
            assert x.grad == expected
        else:
            with pytest.raises(ZeroDivisionError):
                out.backward()


@pytest.mark.parametrize('x', [[1.0], [1.0, 2.0, 3.0]])
def test_input_of_the_wrong_length(x: list[float]) -> None:
    assert isinstance(micrograd.nn.MLP(2, [1])(x), micrograd.engine.Value)
    with pytest.raises(ValueError, match=f'una lista de 2 .*; llegó una de {len(x)}'):
        nn.MLP(2, [1])(x)


@BOTH
def test_long_chains(library: Any) -> None:
    out = library.Value(1.0)
    for _ in range(10_000):
        out = out + 1
    if library is engine:
        out.backward()
    else:
        with pytest.raises(RecursionError):
            out.backward()


@BOTH
def test_who_frees_the_graph(library: Any) -> None:
    def alive() -> int:
        return sum(type(o) is library.Value for o in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        (library.Value(2.0) * 3 + 1).backward()
        assert alive() - before == (0 if library is engine else 5)
    finally:
        gc.enable()
