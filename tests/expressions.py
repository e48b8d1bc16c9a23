"""Las tablas que comparten las pruebas: cada operación del motor y expresiones que las combinan.

Las funciones sirven igual para Values y para tensores de PyTorch, que es quien juzga. Una operación
nueva cuesta una fila en OPERATIONS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expression:
    """Una función, los puntos donde se la prueba y, si es una sola operación, su `_op`."""

    name: str
    function: Callable[..., Any]
    points: Sequence[tuple[float, ...]]
    op: str = ''


ANYWHERE = [(-3.0,), (-0.5,), (0.0,), (0.5,), (2.0,), (30.0,)]
POWERS = [(2.0, 3.0), (0.0, 2.0), (0.0, 0.0), (2.5, 0.0)]
BOUNDS = [*ANYWHERE, (-20.0,), (20.0,), (-30.0,)]
POSITIVE = [(1e-300,), (1e-3,), (0.5,), (1.0,), (7.0,), (1e300,)]
TIES = [(1.5, 1.5), (math.inf, math.inf), (math.nan, 1.0), (1.0, math.nan)]
PAIRS = [(2.0, 3.0), (-1.5, 0.5), (0.0, -4.0), (1e200, 1e-200)]


def softplus(a: Any) -> Any:
    """PyTorch no lo tiene como método, y su función redondea: desde 20 da x."""
    return a.softplus() if hasattr(a, 'softplus') else a.logaddexp(a.new_zeros(()))


OPERATIONS = [
    Expression('a + b', lambda a, b: a + b, [*PAIRS, (1.0, 0.0)], '+'),
    Expression('a - b', lambda a, b: a - b, [*PAIRS, (1.0, 0.0)], '-'),
    Expression('a * b', lambda a, b: a * b, [*PAIRS, (1.0, 0.0)], '*'),
    Expression('a / b', lambda a, b: a / b, PAIRS, '/'),
    Expression('a ** b', lambda a, b: a**b, [*POWERS, (-0.0, 0.5)], '**'),
    Expression('2 ** a', lambda a: 2**a, ANYWHERE, '**'),
    Expression('a ** 2', lambda a: a**2, ANYWHERE, '**2'),
    Expression('a ** 0', lambda a: a**0, ANYWHERE, '**0'),
    Expression('a ** 1', lambda a: a**1, ANYWHERE, '**1'),
    Expression('a ** 0.5', lambda a: a**0.5, [(0.0,), (-0.0,), *POSITIVE], '**0.5'),
    Expression('a ** -1', lambda a: a**-1, [(-2.0,), (4.0,), (1e-200,), (-1e-200,)], '**-1'),
    Expression('a ** -2', lambda a: a**-2, [(-2.0,), (4.0,), (1e-150,), (-1e-150,)], '**-2'),
    Expression('-a', lambda a: -a, ANYWHERE, 'neg'),
    Expression('abs(a)', lambda a: abs(a), ANYWHERE, 'abs'),
    Expression('exp', lambda a: a.exp(), [*ANYWHERE, (700.0,), (-800.0,)], 'exp'),
    Expression('log', lambda a: a.log(), POSITIVE, 'log'),
    Expression('sqrt', lambda a: a.sqrt(), [(0.0,), (-0.0,), *POSITIVE], 'sqrt'),
    Expression('sin', lambda a: a.sin(), ANYWHERE, 'sin'),
    Expression('cos', lambda a: a.cos(), ANYWHERE, 'cos'),
    Expression('tanh', lambda a: a.tanh(), [*ANYWHERE, (400.0,), (-400.0,)], 'tanh'),
    Expression('sigmoid', lambda a: a.sigmoid(), [*ANYWHERE, (800.0,), (-700.0,)], 'sigmoid'),
    Expression('softplus', softplus, [*ANYWHERE, (800.0,), (-700.0,), (math.inf,)], 'softplus'),
    Expression('relu', lambda a: a.relu(), [*ANYWHERE, (math.nan,)], 'ReLU'),
    Expression('maximum', lambda a, b: a.maximum(b), [*PAIRS, *TIES], 'max'),
    Expression('minimum', lambda a, b: a.minimum(b), [*PAIRS, *TIES], 'min'),
    Expression('clip(min)', lambda a: a.clip(min=-20), [*BOUNDS, (math.nan,)], 'clamp_min'),
    Expression('clip', lambda a: a.clip(-20, 20), [*BOUNDS, (math.nan,)], 'clamp_max'),
    Expression('clip(min=b)', lambda a, b: a.clip(min=b), [*PAIRS, *TIES], 'clamp_min'),
    Expression('clip(max=b)', lambda a, b: a.clip(max=b), [*PAIRS, *TIES], 'clamp_max'),
]


def _sanity(x: Any) -> Any:
    """La primera prueba clásica de micrograd: un valor que se usa por muchos caminos."""
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    return h + q + q * x


def _more_operations(a: Any, b: Any) -> Any:
    """La segunda: potencias, divisiones, restas y números de los dos lados."""
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c - a
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    f = (c - d) ** 2
    return f / 2.0 + 10.0 / f


def _skip_connection(x: Any, w: Any) -> Any:
    h = (w * x).tanh()
    return (h + x) * (w * h).sigmoid() + x


def _deep_fan_out(x: Any) -> Any:
    for _ in range(20):
        x = x + 0.1 * x * x.tanh()
    return x


COMPOSITIONS = [
    Expression('prueba clásica 1', _sanity, [(-4.0,), (3.0,)]),
    Expression('prueba clásica 2', _more_operations, [(-4.0, 2.0), (0.5, -1.5)]),
    Expression('conexión residual', _skip_connection, [(0.7, -1.3), (2.0, 0.5)]),
    Expression('abanico profundo', _deep_fan_out, [(0.5,), (-0.8,)]),
    Expression('operandos repetidos', lambda a, b: a * a * b + a / a - b**b, [(1.5, 2.0)]),
    Expression('relu apagada bajo sqrt', lambda a: (a.relu() + 0).sqrt(), [(-1.0,), (4.0,)]),
    Expression('softplus a mano', lambda a: (1 + a.exp()).log(), ANYWHERE),
    Expression('un divisor diminuto', lambda a, b: a / b * 1e-10, [(1e-315, 1e-310)]),
    Expression('el log de algo diminuto', lambda a: a.log() * 1e-10, [(1e-310,)]),
    Expression('límites al revés', lambda a: a.clip(2, 1), [(0.5,), (1.5,), (3.0,)]),
    Expression('norma', lambda a, b: (a * a + b * b).sqrt(), [(3.0, 4.0), (-1e-3, 2.0)]),
    Expression('una hoja sola', lambda a: a, [(3.0,)]),
    Expression('la segunda hoja no se usa', lambda a, b: a * 3, [(2.0, 5.0)]),
]

EXPRESSIONS = OPERATIONS + COMPOSITIONS
CASES = [(e, point) for e in EXPRESSIONS for point in e.points]
CASE_IDS = [f'{e.name} en {point}' for e, point in CASES]
