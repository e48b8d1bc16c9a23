"""Qué es un número para Michigrad, y los errores que explican por qué algo no lo es."""

from __future__ import annotations

import math
import reprlib
from numbers import Real
from typing import Any

from michigrad._fields import Fields

_SEVERAL = 'para varios números usá [Value(x) for x in datos]'
_HINTS = {
    'str': 'convertilo antes con float(...)',
    'NoneType': 'fijate si a alguna función le falta el return',
    'list': _SEVERAL,
    'tuple': _SEVERAL,
    'complex': 'quedate con la parte real: z.real',
}
_TOO_BIG = 'no entra en un float: el máximo es 1.8e308'

# El signo de cada operación que en Python es un método con otro nombre.
_SIGNS = {
    '__add__': '+',
    '__sub__': '-',
    '__mul__': '*',
    '__truediv__': '/',
    '__pow__': '**',
    '__neg__': '-x',
    '__abs__': 'abs',
    '__lt__': '<',
    '__le__': '<=',
    '__gt__': '>',
    '__ge__': '>=',
}

# Lo que piden las operaciones que no siempre tienen un resultado real.
_NEEDS = {
    '/': 'el divisor no puede ser 0',
    '**': 'una base negativa pide un exponente entero, y una base 0 uno no negativo',
    'log': 'pide un número mayor que 0; si puede llegar a 0, sumale un épsilon',
    'sqrt': 'pide un número mayor o igual que 0',
    'sin': 'el ángulo tiene que ser finito',
    'cos': 'el ángulo tiene que ser finito',
}


class _Short(reprlib.Repr):
    """Un repr de pocas letras. Python se niega a escribir un entero de más de 4300 cifras."""

    def __init__(self) -> None:
        super().__init__()
        self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() < 100:
            return repr(x)
        return f'un entero de unas {round(x.bit_length() * math.log10(2))} cifras'


_repr = _Short().repr
_LONGEST = 120  # una lista de listas de Values ya son miles de letras


def short(x: Any) -> str:
    """`x` como se lo muestra en un mensaje de error: en una línea y no muy largo."""
    text = ' '.join(_repr(x).split())
    return text if len(text) <= _LONGEST else f'{text[: _LONGEST - 1]}…'


def number(data: Any) -> float:
    """Devuelve `data` como int o float de Python: con los escalares de numpy todo es más lento.

    Raises:
        TypeError: si no es un número real.
        OverflowError: si no entra en un float.
    """
    if not isinstance(data, (int, float)):  # bool es un int y np.float64 es un float
        if getattr(data, 'ndim', None) == 0:  # los otros escalares y los arrays 0-d de numpy
            data = data.item()
        if not isinstance(data, Real):
            kind = type(data).__name__
            raise TypeError(
                f'se esperaba un número real y llegó {short(data)} ({kind}): {_hint(data)}'
            )
    try:
        as_float = float(data)
    except OverflowError:
        raise OverflowError(f'el número {_TOO_BIG}') from None
    return int(data) if isinstance(data, int) else as_float


def _hint(data: Any) -> str:
    if isinstance(data, Fields):
        return 'ya es un Value, usalo así como está'
    if hasattr(data, '_prev'):
        return (
            'es un Value de otra copia de la clase, o de otra clase; reiniciá Python y usá siempre '
            'el de from michigrad.engine import Value'
        )
    if getattr(data, 'ndim', 0):  # un array de numpy, un tensor de PyTorch
        return f'{_SEVERAL}; si es uno solo, array.item()'
    return parentheses(data)[2:] or _HINTS.get(type(data).__name__, 'usá un int o un float')


def parentheses(x: Any) -> str:
    """Lo que agrega un error cuando en vez de un resultado llegó la función que lo da."""
    name = getattr(x, '__name__', '')
    return f'; te faltaron los paréntesis: {name}()' if name.isidentifier() else ''


def assigned(v: Any, field: str) -> float:
    """El número que alguien asignó en `v.data` o `v.grad`.

    Raises:
        TypeError, OverflowError: los de `number`; el mensaje nombra al nodo.
    """
    value = getattr(v, field)
    try:
        return number(value)
    except (TypeError, OverflowError) as error:
        hint = f'asignale uno, como {field} = 0.5'
        if value is None and field == 'grad':
            hint = 'en vez de None va 0, o zero_grad()'
        elif isinstance(value, Fields):
            hint = 'de un Value va el número, v.data'
        elif isinstance(error, OverflowError):
            hint = f'ese {_TOO_BIG}'
        raise type(error)(
            f'{field} de {label(v)} tiene que ser un número y es {short(value)} '
            f'({type(value).__name__}): {hint}'
        ) from None


def label(v: Any) -> str:
    """Cómo se nombra a un Value en un mensaje: su nombre o, si no tiene, él mismo."""
    name = getattr(v, 'name', '')  # un parámetro que no es un Value puede no tenerlo
    return short(str(name))[1:-1] if name else short(v)


def explain(error: Exception, method: str, *operands: Any) -> Exception:
    """Arma el error de una operación que falló: con qué números y qué pide."""
    for v in operands:
        if isinstance(v, Fields):
            try:
                assigned(v, 'data')
            except (TypeError, OverflowError) as wrong_data:
                return wrong_data
    op = _SIGNS.get(method, method)
    received = ' y '.join(map(_describe, operands))
    if isinstance(error, OverflowError):
        cure = '; si pasa al entrenar, probá con un lr más chico' if op in ('**', 'exp') else ''
        return OverflowError(f'{op} con {received}: el resultado {_TOO_BIG}{cure}')
    return type(error)(f'{op} con {received}: {_NEEDS.get(op, error)}')


def _describe(operand: Any) -> str:
    if not isinstance(operand, Fields):
        return short(operand)
    return f'{label(operand)}={short(operand.data)}' if operand.name else short(operand.data)


def operands(children: Any, op: Any, unknown: Any) -> tuple[Any, ...]:
    """Los operandos de una operación propia, en una tupla.

    Raises:
        TypeError: si no son Values, o si algún otro argumento de Value está mal escrito.
    """
    if unknown:
        wrong = next(iter(unknown))
        raise TypeError(f"Value no conoce {wrong}=: para ponerle un nombre es Value(2.0, name='x')")
    if not isinstance(op, str):
        raise TypeError(
            'el tercer argumento de Value es _op, el nombre de la operación: llegó '
            f'{short(op)}; la derivada se asigna aparte, en out._backward'
        )
    expected = '_children son los operandos, como (self,) o (self, other)'
    if isinstance(children, str):
        raise TypeError(f"{expected}: llegó {short(children)}; el nombre es Value(2.0, name='x')")
    try:
        found = tuple(children)
    except TypeError:
        raise TypeError(f'{expected}: llegó {short(children)}') from None
    for v in found:
        if not isinstance(v, Fields):
            raise TypeError(f'{expected}, todos Values: llegó {short(v)}')
    return found


class Reciprocal(float):
    """1/b donde no entra en un float. Multiplicar por él es dividir por b, que sí puede entrar."""

    __slots__ = ('divisor',)

    divisor: float

    def __new__(cls, b: float) -> Reciprocal:
        self = super().__new__(cls, math.copysign(math.inf, b))
        self.divisor = b
        return self

    def __mul__(self, other: float) -> float:
        return other / self.divisor

    __rmul__ = __mul__


def reciprocal(b: float) -> float:
    """1/b, como derivada local: `b` no es 0."""
    inverse = 1 / b
    return Reciprocal(b) if math.isinf(inverse) else inverse
