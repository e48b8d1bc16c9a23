"""Los controles que comparten los demás módulos: qué se acepta y qué dice el error si no."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from michigrad._fields import Fields
from michigrad._numbers import label, number, parentheses, short
from michigrad.engine import Value


def is_value(x: Any) -> TypeGuard[Value]:
    """Dice si `x` es un Value."""
    return isinstance(x, Fields)


def lift(x: Any) -> Value:
    """Devuelve `x` como Value: si es un número, uno nuevo.

    Raises:
        TypeError: si no es ni un Value ni un número real.
    """
    return x if is_value(x) else Value(x)


def is_list(x: Any) -> bool:
    """Dice si `x` son varias cosas y no una: una lista, tupla, array o cualquier iterable.

    Un texto y un diccionario no lo son. Un generador o un map se pueden recorrer una sola vez.
    """
    if isinstance(x, (list, tuple)):
        return True
    if isinstance(x, (str, bytes, Mapping)) or not isinstance(x, Iterable):
        return False
    return getattr(x, 'ndim', 1) > 0  # un array 0-d es un número


def setting(name: str, x: Any, below: float = math.inf) -> float:
    """Devuelve un número de la configuración como int o float: 0 <= x < below.

    Raises:
        TypeError, ValueError, OverflowError: si no es un número o está fuera de ese rango.
    """
    try:
        checked = number(x)
    except (TypeError, OverflowError) as error:
        raise type(error)(f'{name}: {error}') from None
    if not 0 <= checked < below:
        limit = '' if below == math.inf else f' y menor que {below}'
        raise ValueError(f'{name} tiene que ser un número desde 0{limit}: llegó {short(checked)}')
    return checked


def flag(name: str, x: Any, hint: str = '') -> bool:
    """Controla una opción que es True o False.

    Raises:
        TypeError: si no es ninguno de los dos; el mensaje termina con `hint`.
    """
    if not isinstance(x, bool):
        raise TypeError(f'{name} es True o False: llegó {short(x)}{hint}')
    return x


def check_reduction(x: Any, *options: str) -> None:
    """Controla cómo se juntan varios números en uno: una de `options`, como 'mean' o 'sum'.

    Raises:
        ValueError: si no es ninguna.
    """
    if not isinstance(x, str) or x not in options:
        *first, last = map(repr, options)
        raise ValueError(f'reduction es {", ".join(first)} o {last}: llegó {short(x)}')


def state_names(state: Any, names: Iterable[str], expected: str, wrong: str) -> None:
    """Controla que `state` sea un diccionario con justo esos nombres.

    Raises:
        TypeError: si no es un diccionario; el mensaje empieza con `expected`.
        ValueError: si falta o sobra alguno; el mensaje empieza con `wrong`.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f'{expected}: llegó {short(state)}{parentheses(state)}')
    known = dict.fromkeys(names)
    missing = [name for name in known if name not in state]
    unknown = [name for name in state if name not in known]
    if missing or unknown:
        raise ValueError(f'{wrong}: faltan {short(missing)} y sobran {short(unknown)}')


def values(what: str, xs: Any) -> list[Value]:
    """Devuelve en una lista los Values de `xs`, que se recorre una sola vez.

    Raises:
        TypeError: si no es una lista de Values; el mensaje empieza con `what`.
    """
    if not is_list(xs):
        raise TypeError(f'{what} es una lista de Values: llegó {short(xs)}{parentheses(xs)}')
    checked = list(xs)
    for x in checked:
        if not is_value(x):
            raise TypeError(f'{what} es una lista de Values: tiene {short(x)}{parentheses(x)}')
    return checked


def leaf(what: str, x: Any) -> None:
    """Controla que `x`, si es un Value, no sea el resultado de una operación.

    Raises:
        ValueError: si lo es.
    """
    if is_value(x) and x._prev:
        raise ValueError(
            f'{what} lleva hojas, y {label(x)} sale de la operación {short(x._op)}: '
            'para cortar ahí el grafo usá Value(v.data)'
        )


def distinct(what: str, xs: Iterable[Any]) -> None:
    """Controla que ningún objeto de `xs` esté dos veces.

    Raises:
        ValueError: si alguno está repetido.
    """
    seen = set()
    for x in xs:
        if id(x) in seen:
            raise ValueError(f'{what} tiene repetido a {label(x)}: cada uno va una sola vez')
        seen.add(id(x))


def leaves(what: str, xs: Any) -> list[Value]:
    """Devuelve en una lista los Values de `xs`, que son hojas y no se repiten.

    Raises:
        TypeError, ValueError: si no es así; el mensaje empieza con `what`.
    """
    checked = values(what, xs)
    for v in checked:
        leaf(what, v)
    distinct(what, checked)
    return checked
