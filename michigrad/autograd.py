"""Derivadas que se pueden volver a derivar: el backward pass también es un grafo.

`backward` deja en cada `grad` un número. `grad` hace las mismas cuentas con Values, así que cada
derivada recuerda de dónde salió: se la puede derivar otra vez, dibujar con show_graph o usar dentro
de una pérdida.

    x = Value(2.0, name='x')
    y = x**3
    (dy,) = grad(y, x)     # 12.0, que es 3·x^2
    (d2y,) = grad(dy, x)   # 12.0, que es 6·x
"""

from __future__ import annotations

import functools
import math
import operator
from types import SimpleNamespace
from typing import Any

import numpy as np

from michigrad._anomaly import detect_anomaly
from michigrad._checks import is_value, lift, values
from michigrad._numbers import label, parentheses, short
from michigrad._rules import NUMPY, Rule, key, rules
from michigrad.engine import Value, _node, topological_order

__all__ = ['detect_anomaly', 'grad']


def grad(output: Value, inputs: Any) -> tuple[Value, ...]:
    """Las derivadas de `output` respecto de cada uno de `inputs`, como Values con su propio grafo.

    Es torch.autograd.grad con create_graph=True. No toca el `grad` de nadie. Dos diferencias: una
    entrada que no interviene en `output` tiene derivada 0 (en PyTorch es un error), y la segunda
    derivada de a**b en a = 0 existe donde PyTorch da nan.

    Args:
        output: el resultado que se deriva.
        inputs: un Value o una lista de Values: hojas o resultados intermedios.

    Returns:
        Una tupla con una derivada por entrada, en el mismo orden.

    Raises:
        TypeError: si algo no es un Value.
        ValueError: si entre las entradas y `output` hay una operación propia, que da solo números,
            o si algún `data` cambió después de hacer la cuenta.
    """
    if not is_value(output):
        raise TypeError(f'grad deriva un Value: llegó {short(output)}{parentheses(output)}')
    wanted = [inputs] if is_value(inputs) else values('inputs', inputs)
    order = topological_order(output)
    path = set(wanted)  # los nodos que dependen de las entradas
    path.update(v for v in order if not path.isdisjoint(v._prev))
    seed = f'∂{label(output)}/∂{label(output)}' if output.name else ''  # para el dibujo
    grads = {output: Value(1.0, name=seed)}
    for v in reversed(order):
        if v not in path or v not in grads or not v._prev:
            continue
        rule, x, y = _rule(v)
        for operand, share in zip(v._prev, (rule.to_x, rule.to_y), strict=False):
            g = share(x, y, v, grads[v]) if share and operand in path else 0.0
            if is_value(g):  # si no, es el 0.0 de donde no pasa nada
                grads[operand] = grads[operand] + g if operand in grads else g
    return tuple(grads[v] if v in grads else Value(0.0) for v in wanted)


def _rule(v: Value) -> tuple[Rule, Any, Any]:
    """La regla de la operación que dio `v` y sus operandos."""
    if v._local_derivatives is None:
        raise ValueError(
            f'grad no sabe derivar la operación propia {short(v._op)}, porque su _backward da '
            'números: armala con las operaciones de Value'
        )
    rule = _table()[key(v._op)]
    x: Any = v._prev[0]
    y: Any = v._prev[-1]
    n = v._fixed_exponent
    if n is not None:
        y = int(n) if n.is_integer() else n
    try:
        again = rule(x, y).data
    except (ArithmeticError, ValueError):
        again = math.nan
    if not math.isclose(again, v.data, rel_tol=1e-9) and not (again != again and v.data != v.data):
        raise ValueError(
            f'{label(v)} no es lo que dan sus operandos: algún data cambió después de hacer la '
            'cuenta; hacela de nuevo antes de derivar'
        )
    return rule, x, y


@functools.cache
def _table() -> dict[str, Rule]:
    """La tabla de reglas, con Values en lugar de arrays."""
    return rules(
        SimpleNamespace(
            where=lambda condition, x, y: x if condition else y,
            equal=lambda x, y: lift(x).data == lift(y).data,
            add=operator.add,
            subtract=operator.sub,
            multiply=operator.mul,
            divide=lambda x, y: _operate('/', operator.truediv, x, y),
            float_power=lambda x, y: _operate('**', operator.pow, x, y),
            log=lambda x: _operate('log', lambda x, _: x.log(), x, x),
            negative=operator.neg,
            isnan=lambda x: math.isnan(lift(x).data),
            abs=abs,
            exp=Value.exp,
            sqrt=Value.sqrt,
            sin=Value.sin,
            cos=Value.cos,
            tanh=Value.tanh,
            sigmoid=Value.sigmoid,
            softplus=Value.softplus,
            maximum=lambda x, y: lift(x).maximum(y),
        )
    )


def _operate(op: str, operation: Any, x: Any, y: Any) -> Value:
    """x (operación) y; si no tiene resultado, un nodo con el inf o nan que pone PyTorch.

    Hace falta en los bordes: la derivada de √x en 0 es inf, y el motor no deja dividir por 0.
    """
    x = lift(x)
    try:
        result: Value = operation(x, y)
        return result
    except (ArithmeticError, ValueError):
        pass
    if op == '**' and not is_value(y):
        op = f'**{y}'
    rule = NUMPY[key(op)]
    with np.errstate(all='ignore'):
        a, b = np.float64(x.data), np.float64(y.data if is_value(y) else y)
        out = rule(a, b)
        to_x = float(rule.to_x(a, b, out, 1.0))
        to_y = float(rule.to_y(a, b, out, 1.0)) if rule.to_y else None
    return _node(float(out), op, x, to_x, lift(y) if rule.to_y else None, to_y)
