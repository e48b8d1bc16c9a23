"""La tabla de reglas: qué calcula cada operación y cómo reparte el gradiente entre sus operandos.

Está escrita una sola vez, como función del módulo que sabe operar: `rules(numpy)` trabaja con
arrays de numpy, `rules(jax.numpy)` con los de JAX, y con un objeto cuyas funciones toman Values da
derivadas que son Values, y se pueden volver a derivar. Los bordes son los del motor y los de
PyTorch: los infinitos, nan, el 0 con signo y los empates de max y min.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np


class Rule(NamedTuple):
    """La regla de una operación, out = x (operación) y. En las de un operando, y no se usa."""

    value: Callable[..., Any]  # el resultado: de (x, y), o de (x) si es de un operando
    to_x: Callable[[Any, Any, Any, Any], Any]  # (x, y, out, g): lo que le llega a x de g
    to_y: Callable[[Any, Any, Any, Any], Any] | None = None  # None: y no recibe gradiente
    fallible: bool = False  # puede no tener resultado real: se nota en que da inf o nan
    unary: bool = False  # es de un operando

    def __call__(self, x: Any, y: Any) -> Any:
        """El resultado."""
        return self.value(x) if self.unary else self.value(x, y)


def key(op: str) -> str:
    """La clave en la tabla del `_op` de un nodo: '**2' y '**0.5' comparten la regla '**n'."""
    return '**n' if op.startswith('**') and op != '**' else op


def rules(xp: Any) -> dict[str, Rule]:
    """La tabla de reglas: del `_op` de un nodo a su Rule, con '**n' para los exponentes fijos.

    Args:
        xp: numpy, jax.numpy o un objeto con las mismas funciones. De las que usan las derivadas,
            solo `divide`, `log` y `float_power` pueden no tener resultado real; ahí se espera de
            ellas lo que hace numpy: inf o nan, y ninguna excepción. Si tiene `sigmoid` o
            `softplus`, se usan en vez de las de acá.

    Las derivadas `to_x` y `to_y` son lineales en g, el gradiente de out. En '**n', y es el
    exponente, un float de Python.
    """

    where = xp.where

    def sigmoid(x: Any) -> Any:
        e = xp.exp(-xp.abs(x))  # e^-|x| nunca se desborda
        return where(x >= 0, 1 / (1 + e), e / (1 + e))

    def softplus(x: Any) -> Any:
        return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))

    sigmoid = getattr(xp, 'sigmoid', sigmoid)
    softplus = getattr(xp, 'softplus', softplus)

    def to_base(x: Any, y: Any, out: Any, g: Any) -> Any:
        # Con exponente 0 no pasa nada, ni siquiera un gradiente infinito.
        slope = where(xp.equal(y, 0), 0.0, y * xp.float_power(x, y - 1))
        return where(xp.equal(y, 0), 0.0, slope * g)

    def to_fixed_base(x: Any, y: float, out: Any, g: Any) -> Any:
        if y == 2:  # el cuadrado, aparte: una potencia tarda diez veces más que un producto
            return 2 * x * g
        if y == 0.5:  # la raíz de -0.0 es -0.0, y ahí la pendiente es -inf
            slope = y * xp.float_power(x, y - 1)
            return where(xp.equal(x, 0), xp.divide(y, x), slope) * g
        return to_base(x, y, out, g)

    def to_exponent(x: Any, y: Any, out: Any, g: Any) -> Any:
        return where(xp.equal(x, 0) & (y >= 0), 0.0, out * xp.log(x)) * g

    def sign(x: Any) -> Any:
        return where(x > 0, 1.0, where(x < 0, -1.0, 0.0))

    def larger(x: Any, y: Any) -> Any:
        # En vez de xp.maximum, que con 0.0 y -0.0 no siempre da el primero.
        return where((x >= y) | xp.isnan(x), x, y)

    def of_greater(x: Any, y: Any, g: Any) -> Any:
        """Lo que le llega a x del mayor de x e y: en un empate, la mitad a cada uno."""
        return where(x < y, 0.0, where(xp.equal(x, y), g / 2, g))

    return {
        '+': Rule(
            value=xp.add,
            to_x=lambda x, y, out, g: g,
            to_y=lambda x, y, out, g: g,
        ),
        '-': Rule(
            value=xp.subtract,
            to_x=lambda x, y, out, g: g,
            to_y=lambda x, y, out, g: -g,
        ),
        '*': Rule(
            value=xp.multiply,
            to_x=lambda x, y, out, g: y * g,
            to_y=lambda x, y, out, g: x * g,
        ),
        '/': Rule(
            value=xp.divide,
            to_x=lambda x, y, out, g: xp.divide(g, y),  # y no g·(1/y): 1/y puede desbordarse
            to_y=lambda x, y, out, g: xp.divide(-out, y) * g,
            fallible=True,
        ),
        '**': Rule(
            value=xp.float_power,  # xp.power hace de x**0.5 una raíz, que da nan en -inf
            to_x=to_base,
            to_y=to_exponent,
            fallible=True,
        ),
        '**n': Rule(
            value=lambda x, y: x * x if y == 2 else xp.float_power(x, y),
            to_x=to_fixed_base,
            fallible=True,
        ),
        'max': Rule(
            value=larger,
            to_x=lambda x, y, out, g: of_greater(x, y, g),
            to_y=lambda x, y, out, g: of_greater(y, x, g),
        ),
        'min': Rule(
            value=lambda x, y: -larger(-x, -y),
            to_x=lambda x, y, out, g: of_greater(-x, -y, g),
            to_y=lambda x, y, out, g: of_greater(-y, -x, g),
        ),
        'clamp_min': Rule(
            value=larger,
            to_x=lambda x, y, out, g: where(x >= y, g, 0.0),
            to_y=lambda x, y, out, g: where(x < y, g, 0.0),
        ),
        'clamp_max': Rule(
            value=lambda x, y: -larger(-x, -y),
            to_x=lambda x, y, out, g: where(x <= y, g, 0.0),
            to_y=lambda x, y, out, g: where(x > y, g, 0.0),
        ),
        'neg': Rule(
            value=xp.negative,
            to_x=lambda x, y, out, g: -g,
            unary=True,
        ),
        'abs': Rule(
            value=xp.abs,
            to_x=lambda x, y, out, g: sign(x) * g,
            unary=True,
        ),
        'exp': Rule(
            value=xp.exp,
            to_x=lambda x, y, out, g: out * g,
            fallible=True,
            unary=True,
        ),
        'log': Rule(
            value=xp.log,
            to_x=lambda x, y, out, g: xp.divide(g, x),
            fallible=True,
            unary=True,
        ),
        'sqrt': Rule(
            value=xp.sqrt,
            to_x=lambda x, y, out, g: xp.divide(g, 2 * out),
            fallible=True,
            unary=True,
        ),
        'sin': Rule(
            value=xp.sin,
            to_x=lambda x, y, out, g: xp.cos(x) * g,
            fallible=True,
            unary=True,
        ),
        'cos': Rule(
            value=xp.cos,
            to_x=lambda x, y, out, g: -xp.sin(x) * g,
            fallible=True,
            unary=True,
        ),
        'tanh': Rule(
            value=xp.tanh,
            to_x=lambda x, y, out, g: (1 - out * out) * g,
            unary=True,
        ),
        'sigmoid': Rule(
            value=sigmoid,
            to_x=lambda x, y, out, g: out * (1 - out) * g,
            unary=True,
        ),
        'ReLU': Rule(
            value=partial(xp.maximum, 0.0),
            to_x=lambda x, y, out, g: where(x <= 0, 0.0, g),  # por nan pasa, como en PyTorch
            unary=True,
        ),
        'softplus': Rule(
            value=softplus,
            to_x=lambda x, y, out, g: sigmoid(x) * g,
            unary=True,
        ),
    }


NUMPY = rules(np)
