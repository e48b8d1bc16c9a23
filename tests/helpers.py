"""Lo que usan varios archivos de pruebas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from michigrad.engine import Value


def cube(self: Value, name: str = '') -> Value:
    """Una operación propia, escrita como en micrograd."""
    out = Value(self.data**3, (self,), 'cubo', name)

    def _backward() -> None:
        self.grad += 3 * self.data**2 * out.grad

    out._backward = _backward
    return out


def close(expected: Any, tolerance: float = 1e-12, abs: float = 1e-12) -> Any:
    """Lo que se espera, con lugar para el redondeo; nan es igual a nan."""
    expected = np.array(expected, dtype=np.float64) if isinstance(expected, list) else expected
    return pytest.approx(expected, rel=tolerance, abs=abs, nan_ok=True)


def neuron() -> Value:
    """Un grafo chico, con nombres: ŷ = tanh(x·W₀ + b)."""
    x, w, b = Value(0.5, name='x'), Value(2.0, name='W₀'), Value(1, name='b')
    out = (x * w + b).tanh()
    out.name = 'ŷ'
    return out
