"""La notación de las cuentas, la del pizarrón: nodos, operaciones, derivadas y números.

Cada operación se escribe una sola vez, en la tabla de este archivo: la usan los dibujos de Python
y, en JSON, la página de `show_backprop`.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from michigrad._drawing import name_of

_LONGEST_EXPRESSION = 14
_LONGEST_NAME = 24


class Term(NamedTuple):
    """Una expresión escrita y cuánto ata: 0 un signo, 1 la suma, 2 el producto, 3 la potencia."""

    text: str
    rank: int = 4

    def within(self, rank: int) -> str:
        """La expresión, entre paréntesis si ata menos que `rank`."""
        return self.text if self.rank >= rank else f'({self.text})'

    def __format__(self, rank: str) -> str:
        return self.within(int(rank or 0))


class Row(NamedTuple):
    """Cómo se escribe una operación.

    `text` y cada una de las derivadas locales `slopes` son plantillas: {0:2} es el primer operando,
    entre paréntesis si ata menos que 2. Una derivada vacía no se sabe escribir. `symbol` es lo que
    dice la elipse del dibujo.
    """

    symbol: str
    text: str
    rank: int = 4
    slopes: tuple[str, ...] = ()


_SIGMOID = 'sigmoid({0})'
_WINS = '(1 si {}, ½ si son iguales, si no 0)'.format
_ROOT = Row('√x', '√{0:4}', 3, ('(1/(2·√{0:4}))',))

_ROWS = {
    '+': Row('+', '{0} + {1:1}', 1, ('1', '1')),
    '-': Row('−', '{0} − {1:2}', 1, ('1', '(−1)')),
    '*': Row('·', '{0:2}·{1:2}', 2, ('{1:4}', '{0:4}')),
    '/': Row('/', '{0:2}/{1:3}', 2, ('(1/{1:3})', '(−{0:4}/{1:4}²)')),
    '**': Row('a^b', '{0:4}^{1:4}', 3, ('{1:4}·{0:4}^({1:1} − 1)', '{0:4}^{1:4}·log({0})')),
    'neg': Row('−x', '−{0:2}', 0, ('(−1)',)),
    'abs': Row('|x|', '|{0}|', 4, ('signo({0})',)),
    'exp': Row('exp', 'exp({0})', 4, ('exp({0})',)),
    'log': Row('log', 'log({0})', 4, ('(1/{0:3})',)),
    'sqrt': _ROOT,
    'sin': Row('sin', 'sin({0})', 4, ('cos({0})',)),
    'cos': Row('cos', 'cos({0})', 4, ('(−sin({0}))',)),
    'tanh': Row('tanh', 'tanh({0})', 4, ('(1 − tanh({0})²)',)),
    'sigmoid': Row('sigmoid', _SIGMOID, 4, (f'{_SIGMOID}·(1 − {_SIGMOID})',)),
    'softplus': Row('softplus', 'softplus({0})', 4, (_SIGMOID,)),
    'ReLU': Row('ReLU', 'ReLU({0})', 4, ('(1 si {0} > 0, si no 0)',)),
    'max': Row('max', 'max({0}, {1})', 4, (_WINS('{0} > {1}'), _WINS('{1} > {0}'))),
    'min': Row('min', 'min({0}, {1})', 4, (_WINS('{0} < {1}'), _WINS('{1} < {0}'))),
    # Los topes de clip: en el borde, todo el gradiente es del que se recorta.
    'clamp_min': Row(
        'max', 'max({0}, {1})', 4, ('(1 si {0} ≥ {1}, si no 0)', '(1 si {0} < {1}, si no 0)')
    ),
    'clamp_max': Row(
        'min', 'min({0}, {1})', 4, ('(1 si {0} ≤ {1}, si no 0)', '(1 si {0} > {1}, si no 0)')
    ),
}

_SUBSCRIPTS = str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉')
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def row(v: Any) -> Row:
    """Cómo se escribe la operación de la que salió `v`; si es propia, op(x, y)."""
    n = _fixed_exponent(v)
    if n is not None:
        return _power(n)
    op = v._op or ''  # en una clase propia puede ser None
    known = _ROWS.get(op)
    arity = len(v._prev)
    if known is not None and len(known.slopes) == arity:
        return known
    if op in ('+', '*') and arity > 2:
        join, rank = (' + ', 1) if op == '+' else ('·', 2)
        return Row(_ROWS[op].symbol, join.join(f'{{{i}:{rank}}}' for i in range(arity)), rank)
    name = shorten(op) or 'op'
    operands = ', '.join(f'{{{i}}}' for i in range(arity))
    return Row(name, f'{name.replace("{", "{{").replace("}", "}}")}({operands})')


def _fixed_exponent(v: Any) -> float | None:
    """El exponente de una potencia con exponente fijo; en otras clases lo dice su `_op`: '**2'."""
    n: float | None = getattr(v, '_fixed_exponent', None)
    if n is None and (v._op or '').startswith('**') and len(v._prev) == 1:
        with contextlib.suppress(ValueError):
            n = float(v._op[2:])
    return n


def _power(n: float) -> Row:
    """x², 1/x, √x, x⁻³ o x^1.5, con su derivada."""
    if n == 0.5:
        return _ROOT
    if n == -1:
        return Row('1/x', '1/{0:3}', 2, ('(−1/{0:4}²)',))
    slope = f'{n:g}' if n in (0, 1) else f'{_factor(n)}·{{0:4}}{_exponent(n - 1)}'
    return Row(f'x{_exponent(n) or "¹"}', f'{{0:4}}{_exponent(n) or "¹"}', 3, (slope,))


def _exponent(n: float) -> str:
    """Un superíndice si es entero, y nada si es 1; si no, ^1.5 o ^(−1.5)."""
    if n == 1:
        return ''
    if float(n).is_integer() and abs(n) < 1e6:
        return str(int(n)).translate(_SUPERSCRIPTS)
    return f'^{_factor(n)}'


def _factor(n: float) -> str:
    return f'{n:g}' if n >= 0 else f'({minus(f"{n:g}")})'


def expression(v: Any, terms: Mapping[Any, Term]) -> Term:
    """Escribe la operación de la que salió `v`: (y − ŷ)², tanh(x), x₀·W₀."""
    how = row(v)
    return Term(how.text.format(*(terms[operand] for operand in v._prev)), how.rank)


def labels(
    root: Any, nodes: Sequence[Any], names: Mapping[Any, str] | None = None
) -> dict[Any, Term]:
    """El nombre de cada nodo, distinto del de todos los demás.

    Es el que se le puso (x#2 si otro se llama x). Si no tiene, el de una hoja es c₁, c₂...
    (constantes), el del resultado L, y el de los otros su expresión si es corta o, si no, v₁, v₂...

    Args:
        root: el resultado.
        nodes: los nodos de su grafo, en orden topológico.
        names: el nombre de algunos de los que no tienen.
    """
    names = names or {}
    given = {v: shorten(name_of(v) or names.get(v, '')) for v in nodes}
    taken = set(given.values())
    used: set[str] = set()
    terms: dict[Any, Term] = {}
    for v in nodes:
        if given[v]:
            terms[v] = Term(_told_apart(given[v], taken, used))
        elif not v._prev:
            terms[v] = Term(_numbered('c', taken))
        elif v is root:
            terms[v] = Term(_root_name(taken))
        else:
            term = expression(v, terms)
            short = len(term.text) <= _LONGEST_EXPRESSION and term.text not in taken
            terms[v] = term if short else Term(_numbered('v', taken))
        taken.add(terms[v].text)
    return terms


def _told_apart(name: str, taken: set[str], used: set[str]) -> str:
    """`name` o, si ya se usó, name#2."""
    copy = 1
    text = name
    while text in used or (copy > 1 and text in taken):
        copy += 1
        text = f'{name}#{copy}'
    used.add(text)
    return text


def _numbered(letter: str, taken: set[str]) -> str:
    n = 1
    while (text := f'{letter}{str(n).translate(_SUBSCRIPTS)}') in taken:
        n += 1
    return text


def _root_name(taken: set[str]) -> str:
    """L, de pérdida (loss), si no se confunde con un nombre: L0.N1.w0 es de la capa 0."""
    for text in ('L', 'E', 'J'):
        if not any(re.match(rf'{text}($|[\d₀-₉._#])', name) for name in taken):
            return text
    return _numbered('resultado', taken)


def box_name(v: Any, terms: Mapping[Any, Term]) -> str:
    """Lo que dice la caja de `v` en un dibujo: su nombre, y si es una constante."""
    text = terms[v].text
    return text if v._prev or name_of(v) else f'constante {text}'


def significant(x: float, digits: int = 4) -> str:
    """`x` con `digits` cifras significativas; si es justo un número más corto, ese: 2, 0.5.

    Menos de una diezmilésima y más de un millón, en notación científica. Nunca -0.
    """
    if not math.isfinite(x) or x == 0:
        return minus(str(float(x))) if x else '0'
    text = f'{x:.{digits - 1}e}'
    exponent = int(text.partition('e')[2])
    if -4 <= exponent < 6:
        text = f'{x:.{max(digits - 1 - exponent, 0)}f}'
        if '.' in text and float(text) == x:
            text = text.rstrip('0').rstrip('.')
    return minus(text)


def decimal(x: float, decimals: int = 4) -> str:
    """`x` con `decimals` decimales, o notación científica si es enorme. Nunca -0."""
    text = f'{x:.{decimals}f}' if abs(x) < 1e9 else f'{x:.{decimals}e}'
    return text.lstrip('-') if float(text) == 0 else text


def minus(text: str) -> str:
    return text.replace('-', '−')


def shorten(text: str) -> str:
    """Un nombre en una sola línea y no muy largo."""
    text = ' '.join(text.split())
    return text if len(text) <= _LONGEST_NAME else f'{text[: _LONGEST_NAME - 1]}…'
