"""La notación de las cuentas: cómo se escribe cada nodo, cada derivada y cada número."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from michigrad._drawing import name_of


class Term(NamedTuple):
    """Una expresión escrita y cuánto ata: 0 un signo, 1 la suma, 2 el producto, 3 la potencia."""

    text: str
    rank: int = 4

    def within(self, rank: int) -> str:
        """La expresión, entre paréntesis si ata menos que `rank`."""
        return self.text if self.rank >= rank else f'({self.text})'

    @property
    def atom(self) -> str:
        return self.within(4)


def labels(root: Any, nodes: Sequence[Any]) -> dict[Any, Term]:
    """Cómo se llama cada nodo: su nombre o, si no tiene, su expresión si es corta.

    Si es larga se le pone v y un número, el de su lugar en `nodes`; al resultado, L.
    """
    terms: dict[Any, Term] = {}
    for i, v in enumerate(nodes):
        terms[v] = _label(v, i, terms)
        if v is root and v._prev and not name_of(v) and 'L' not in map(name_of, nodes):
            terms[v] = Term('L')
    return terms


def _label(v: Any, i: int, terms: Mapping[Any, Term]) -> Term:
    name = shorten(name_of(v))
    if name:
        return Term(name)
    if not v._prev:
        return number_term(v.data, 'g')
    term = expression(v._op, [terms[operand] for operand in v._prev])
    return term if len(term.text) <= 20 else Term(f'v{str(i).translate(_SUBSCRIPTS)}')


_INFIX = {'+': (' + ', 1), '-': (' − ', 1), '*': ('·', 2), '/': ('/', 2), '**': ('^', 3)}

# Las derivadas locales de cada operación, escritas: {x} es el operando, {a} y {b} los operandos
# entre paréntesis si hacen falta. Lo que no está acá se escribe ∂resultado/∂operando.
_SLOPES = {
    '+': ('1', '1'),
    '-': ('1', '(−1)'),
    '*': ('{b}', '{a}'),
    '/': ('(1/{b})', '(−{a}/{b}²)'),
    '**': ('{b}·{a}^({b} − 1)', '{a}^{b}·log({x})'),
    'neg': ('(−1)',),
    'abs': ('signo({x})',),
    'exp': ('exp({x})',),
    'log': ('(1/{a})',),
    'sqrt': ('(1/(2·√{a}))',),
    'sin': ('cos({x})',),
    'cos': ('(−sin({x}))',),
    'tanh': ('(1 − tanh({x})²)',),
    'sigmoid': ('sigmoid({x})·(1 − sigmoid({x}))',),
    'ReLU': ('(1 si {x} > 0, si no 0)',),
}

OBVIOUS = ('', '0', '1', '(−1)')  # no dicen más que su número

_SUBSCRIPTS = str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉')
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def expression(op: str, operands: Sequence[Term]) -> Term:
    """Escribe una operación como en el pizarrón: (y − ŷ)², tanh(x), x₀·W₀."""
    if op in _INFIX and len(operands) > 1:
        symbol, rank = _INFIX[op]
        left = 4 if op == '**' else rank
        right = rank if op in '+*' else rank + 1
        first, *others = operands
        return Term(symbol.join([first.within(left), *(t.within(right) for t in others)]), rank)
    if len(operands) == 1:
        (x,) = operands
        if op.startswith('**'):
            return _power(x, op[2:])
        if op == 'neg':
            return Term(f'−{x.within(2)}', 0)
        if op == 'abs':
            return Term(f'|{x.text}|')
        if op == 'sqrt':
            return Term(f'√{x.atom}', 3)
    return Term(f'{shorten(op) or "op"}({", ".join(t.text for t in operands)})')


def slope_symbols(op: str, operands: Sequence[Term]) -> Sequence[str]:
    """Las derivadas locales de una operación, escritas; '' donde no se sabe cómo."""
    a, b = operands[0], operands[-1]
    if op.startswith('**') and op != '**':
        n = float(op[2:])
        if n in (0, 1):
            return [f'{n:g}']
        power = a.atom if n == 2 else _power(a, f'{n - 1:g}').text
        return [f'{number_term(n, "g").within(1)}·{power}']
    templates = _SLOPES.get(op, [''] * len(operands))
    return [t.format(a=a.atom, b=b.atom, x=a.text) for t in templates]


def _power(x: Term, n: str) -> Term:
    """x elevado a `n`: con un superíndice si es entero, x² o x⁻¹; si no, x^0.5."""
    if re.fullmatch('-?[0-9]+', n):
        return Term(x.atom + n.translate(_SUPERSCRIPTS), 3)
    return Term(f'{x.atom}^({minus(n)})' if n.startswith('-') else f'{x.atom}^{n}', 3)


def number(x: float, spec: str = '') -> str:
    """Cuatro decimales, o notación científica si es enorme o si se vería como 0 sin serlo."""
    size = abs(x)
    spec = spec or ('.4e' if size >= 1e9 else '.1e' if 0 < size < 5e-5 else '.4f')
    return minus(f'{x + 0.0:{spec}}')  # -0.0 + 0.0 es 0.0


def number_term(x: float, spec: str = '') -> Term:
    text = number(x, spec)
    return Term(text, 0 if text.startswith('−') else 4)


def minus(text: str) -> str:
    return text.replace('-', '−')


def shorten(text: str) -> str:
    """Un nombre en una sola línea y no muy largo."""
    text = ' '.join(text.split())
    return text if len(text) <= 24 else f'{text[:23]}…'
