"""gradcheck: compara los gradientes de backward con diferencias finitas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from michigrad._checks import is_value, leaf, lift, setting
from michigrad._numbers import assigned, label, parentheses, short
from michigrad._restore import unchanged
from michigrad.engine import Value, topological_order


class _Row(NamedTuple):
    """Una línea de la tabla: la derivada de una función respecto de una entrada."""

    function: str
    entry: str
    analytic: float
    numeric: float
    close: bool


def gradcheck(
    f: Callable[..., Value],
    *values: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
) -> bool:
    """Controla que backward dé la derivada de `f` respecto de cada entrada.

    La derivada numérica es la diferencia central (f(x + h) - f(x - h)) / 2h, con
    h = eps·max(1, |x|). Además de f prueba f + 2·f, que usa dos veces cada entrada: el gradiente se
    tiene que acumular y llevar el factor out.grad. Los datos, los gradientes y los nombres quedan
    como estaban.

    Una derivada mal escrita puede acertar en un punto: probá varios, también negativos y grandes.

    Args:
        f: una función que recibe las entradas y devuelve un Value.
        *values: las entradas: números, o Values que no salen de una operación.
        eps: el paso de la diferencia.
        atol, rtol: la tolerancia: |analítico - numérico| <= atol + rtol·|numérico|.

    Returns:
        True.

    Raises:
        ArithmeticError: si algún gradiente no coincide. Trae la tabla de todos y el error probable,
            si se puede saber. Es OverflowError si a `f` o a su derivada se le desborda la cuenta.
        TypeError, ValueError: si `f` no devuelve un Value o si un argumento no sirve.
    """
    eps, atol, rtol = setting('eps', eps), setting('atol', atol), setting('rtol', rtol)
    if eps == 0:
        raise ValueError('eps tiene que ser mayor que 0')
    inputs = _inputs(f, values)
    with unchanged(inputs, 'data', 'grad', 'name'):
        once, again = _call(f, inputs), _call(f, inputs)
        slopes = [_slopes(f, inputs, v, once.data, eps) for v in inputs]
        rows = []
        for function, times, out in (('f', 1, once), ('f + 2·f', 3, once + 2 * again)):
            gradients = _gradients(out, inputs)
            for v, analytic, (central, _, _) in zip(inputs, gradients, slopes, strict=True):
                numeric = times * central
                close = abs(analytic - numeric) <= atol + rtol * abs(numeric)
                rows.append(_Row(function, _label(v), analytic, numeric, close))
        slips = list(_broken_rules(once))
        right = all(row.close for row in rows)
        if right and not slips:
            return True
        if not slips:
            slips = list(_likely_slips(once, again, inputs, slopes, rows))
    raise ArithmeticError(_report(rows, slips))


def _inputs(f: Any, values: tuple[Any, ...]) -> list[Value]:
    if not callable(f):
        raise TypeError(
            f'gradcheck recibe la función, sin llamarla, y las entradas: gradcheck(f, x); llegó '
            f'{short(f)}'
        )
    if not values:
        raise ValueError('hace falta al menos una entrada: gradcheck(f, x)')
    inputs = [lift(v) for v in values]
    for v in inputs:
        leaf('gradcheck', v)
        if not math.isfinite(assigned(v, 'data')):
            raise ValueError(f'las entradas tienen que ser finitas: llegó {short(v)}')
    return inputs


def _call(f: Callable[..., Value], inputs: list[Value]) -> Value:
    try:
        out = f(*inputs)
    except OverflowError as error:
        raise OverflowError(
            f'f se desborda con {", ".join(map(_label, inputs))} ({error}): reescribila con '
            'exponentes negativos, como e^-|x|'
        ) from None
    if not is_value(out):
        raise TypeError(
            f'f tiene que devolver un solo Value y devolvió {short(out)}: '
            f'fijate si le falta el return o, si da varios, elegí uno{parentheses(out)}'
        )
    assigned(out, 'data')
    return out


def _slopes(
    f: Callable[..., Value], inputs: list[Value], v: Value, center: float, eps: float
) -> tuple[float, float, float]:
    """La derivada numérica de `f` respecto de `v`: central, por izquierda y por derecha."""
    x = v.data
    step = eps * max(1, abs(x))
    lower, upper = x - step, x + step
    if not lower < x < upper:
        raise ValueError(f'eps={eps} es tan chico que no cambia {_label(v)}: usá uno más grande')
    v.data = lower
    below = _call(f, inputs).data
    v.data = upper
    above = _call(f, inputs).data
    v.data = x
    return (
        (above - below) / (upper - lower),
        (center - below) / (x - lower),
        (above - center) / (upper - x),
    )


def _gradients(out: Value, inputs: list[Value]) -> list[float]:
    """Los gradientes de `out` según backward; los del grafo quedan como estaban."""
    nodes = {*topological_order(out), *inputs}
    with unchanged(nodes, 'grad'):
        for v in nodes:
            v.grad = 0
        try:
            out.backward()
        except OverflowError as error:
            raise OverflowError(
                f'la derivada de f se desborda con {", ".join(map(_label, inputs))} ({error}): '
                'reescribila con exponentes negativos, como e^-|x|'
            ) from None
        return [assigned(v, 'grad') for v in inputs]


def _broken_rules(out: Value) -> Iterator[str]:
    """Busca en las operaciones propias los errores que se pueden probar, acierte o no el número."""
    for v in topological_order(out):
        if v._local_derivatives is not None:
            continue
        # nan más cualquier cosa es nan: si después no lo es, la regla lo pisó.
        if not all(math.isnan(g) for g in _contributions(v, start=math.nan, out_grad=1)):
            yield f'{short(v._op)} asigna el gradiente con =: tiene que acumular con +='
            continue
        single = _contributions(v, start=0, out_grad=1)
        double = _contributions(v, start=0, out_grad=2)
        if any(
            g and g == other and math.isfinite(g) for g, other in zip(single, double, strict=True)
        ):
            yield f'a la derivada de {short(v._op)} le falta multiplicar por out.grad'


def _contributions(v: Value, start: float, out_grad: float) -> list[float]:
    """Lo que la regla de `v` deja en sus operandos, que empiezan con gradiente `start`."""
    with unchanged((v, *v._prev), 'grad'):
        for u in v._prev:
            u.grad = start
        v.grad = out_grad
        v._backward()
        return [u.grad for u in v._prev]


def _likely_slips(
    once: Value,
    again: Value,
    inputs: list[Value],
    slopes: list[tuple[float, float, float]],
    rows: list[_Row],
) -> Iterator[str]:
    """Busca por qué no coincide un gradiente; no dice nada si no lo puede saber."""
    nodes = set(topological_order(once))
    if not math.isfinite(once.data):
        yield f'f da {once.data}: la cuenta se desborda'
    elif once.data != again.data:
        yield f'f no da siempre lo mismo: {once.data} y después {again.data}'
    ratios = []
    for v, (_, left, right), row in zip(inputs, slopes, rows[: len(inputs)], strict=True):
        if v not in nodes:
            yield f'{row.entry} no está en el grafo de f: falta en _children o se usó su .data'
        elif not math.isfinite(row.analytic):
            yield f'la derivada respecto de {row.entry} se desborda: usá exponentes negativos'
        elif min(left, right) - 1e-6 <= row.analytic <= max(left, right) + 1e-6 and not row.close:
            yield f'f tiene una esquina en {row.entry}, sin derivada: probá en otro punto'
        elif row.numeric and not row.close:
            ratios.append(row.analytic / row.numeric)
    if ratios and all(math.isclose(k, ratios[0], rel_tol=1e-3) for k in ratios):
        yield from _factor(ratios[0])


def _factor(k: float) -> Iterator[str]:
    """Nombra un gradiente que es k veces la derivada, si k es -1, un entero chico o su inverso."""
    if math.isclose(k, -1, rel_tol=1e-3):
        yield 'el gradiente tiene el signo cambiado'
    for n in range(2, 11):
        for factor in (n, -n, 1 / n, -1 / n):
            if math.isclose(k, factor, rel_tol=1e-3):
                yield f'el gradiente es {factor:.3g} veces la derivada: sobra o falta un factor'


def _label(v: Value) -> str:
    return f'{label(v) if v.name else "entrada"}={v.data:.6g}'


def _report(rows: list[_Row], slips: list[str]) -> str:
    lines = ['gradcheck encontró un error (f + 2·f usa dos veces cada entrada):']
    lines.append(f'{"entrada":<12} {"":<8} {"analítico":>12} {"numérico":>12} {"diferencia":>11}')
    for function, entry, analytic, numeric, close in rows:
        mark = '' if close else '  <- no coincide'
        lines.append(
            f'{entry:<12} {function:<8} {analytic:>12.6g} {numeric:>12.6g} '
            f'{abs(analytic - numeric):>11.2g}{mark}'
        )
    return '\n'.join([*lines, *(f'Error probable: {slip}.' for slip in slips)])
