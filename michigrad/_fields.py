"""Lo que guarda un nodo del grafo, en un archivo que no se edita.

`Value` hereda de acá sus campos. Quien edita engine.py desde un notebook con `%autoreload 2` hace
que Python lea de nuevo ese archivo, y entonces hay dos clases Value: la de los Values que ya
existían y la nueva. Las dos comparten esta base y por eso se mezclan sin problema. Para saber si
algo es un Value se pregunta isinstance(x, Fields).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


def _refusal(written: str, instead: str) -> Callable[..., NoReturn]:
    """Arma un método que da un error: lo que se escribió no existe, y qué escribir."""

    def method(self: Any, *_: Any) -> NoReturn:
        raise TypeError(f'{written} no se puede con un Value: {instead}')

    return method


class Fields:
    """Los campos de un nodo y los errores de lo que un nodo no es: un número de Python."""

    # Los operandos de las operaciones del motor son _a y _b; _da y _db, sus derivadas locales.
    # _children y _rule son los operandos y la derivada de una operación propia.
    # __slots__ y la falta de tuplas y clausuras hacen que un nodo ocupe menos de la cuarta parte
    # que en micrograd, y que Python libere el grafo apenas se deja de usar.
    __slots__ = ('_a', '_b', '_children', '_da', '_db', '_op', '_rule', 'data', 'grad', 'name')

    data: float
    grad: float
    name: str
    _op: str
    _a: Any
    _b: Any
    _da: float | None
    _db: float | None
    _children: tuple[Any, ...]
    _rule: Callable[[], None] | None

    # math.exp(v) o np.asarray(v, float) llaman a float(v): si diera el número, la cuenta seguiría
    # afuera del grafo, sin derivada y sin aviso.
    __float__ = _refusal(
        'float(v)',
        'el número es v.data; y para que la cuenta quede en el grafo, en vez de math.exp(v) es '
        'v.exp(), y lo mismo log, sqrt, sin, cos y tanh',
    )
    __int__ = _refusal('int(v)', 'usá int(v.data)')
    __round__ = _refusal('round(v)', "usá round(v.data) o, para mostrarlo, f'{v:.2f}'")
    __trunc__ = _refusal('math.trunc(v)', 'usá math.trunc(v.data)')
    __mod__ = __rmod__ = _refusal('v % n', 'usá v.data % n')
    __floordiv__ = __rfloordiv__ = _refusal('v // n', 'usá v.data // n, o v / n')
    __divmod__ = __rdivmod__ = _refusal('divmod(v, n)', 'usá divmod(v.data, n)')
    item = _refusal('v.item()', 'el número es v.data')
    detach = _refusal('v.detach()', 'para seguir la cuenta fuera del grafo usá Value(v.data)')
