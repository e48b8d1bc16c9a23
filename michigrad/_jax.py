"""Una cinta en JAX: el grafo de un ejemplo, como una función pura sobre arrays.

Cada grupo de michigrad._record son unas pocas operaciones de JAX, y da un array de una dimensión.
XLA, el compilador de JAX, tarda según cuántas operaciones recibe, y no según cuántos números
tienen: con una por nodo, una red mediana tardaría minutos en compilarse.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from michigrad import _rules
from michigrad._numbers import short
from michigrad._record import Elementwise, Group, Lists, Operand, Record, Sums

# Cuántas operaciones sobre arrays puede tener un grafo. Lo que tarda XLA crece con el cuadrado:
# tests/benchmarks/bench_jax.py mide cuánto es, en el peor caso, con esta cantidad.
MAX_OPERATIONS = 500

_RULES = _rules.rules(SimpleNamespace(**vars(jnp), sigmoid=jax.nn.sigmoid))

Step = Callable[[list[Any]], Any]  # de los arrays que ya están a uno más


def to_function(
    record: Record, given: int, trained: int, numbers: npt.NDArray[np.float64], single: bool
) -> Callable[..., Any]:
    """La función f(leaves, inputs) que calcula los resultados de `record`.

    `given` es cuántas entradas hay. `leaves` son los primeros `trained` números del espacio
    compartido; las demás hojas son constantes, con lo que tienen en `numbers`.

    Raises:
        ValueError: si el grafo tiene más de MAX_OPERATIONS.
    """
    constants = numbers[trained : record.first_node].copy()
    located = _Arrays(given, trained)
    steps = [
        located.step(group)
        for group in itertools.chain(record.groups(by_row=False), record.groups(by_row=True))
    ]
    roots = np.array([located.find(root) for root in record.roots])

    def f(leaves: Any, inputs: Any = ()) -> Any:
        """El resultado del grafo grabado, para un ejemplo.

        Args:
            leaves: un número por hoja, en el orden de los nombres que dio `to_jax`.
            inputs: un número por entrada, en el orden de `inputs`. Sin entradas no va.

        Raises:
            TypeError, ValueError: si no son arrays de números reales de esas formas.
        """
        leaves = _array('leaves', leaves, trained)
        inputs = _array('inputs', inputs, given)
        dtype = jnp.result_type(float, leaves, inputs)
        arrays = [x.astype(dtype) for x in (leaves, inputs, jnp.asarray(constants))]
        for step in steps:
            arrays.append(step(arrays))
        out = _read(arrays, roots)
        return out[0] if single else out

    return f


def _array(name: str, numbers: Any, size: int) -> Any:
    expected = f'{name} es un array de forma ({size},)'
    try:
        array = jnp.asarray(numbers)
    except (TypeError, ValueError):
        raise TypeError(f'{expected}: llegó {short(numbers)}') from None
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f'{expected}, de números reales: llegó uno de {array.dtype}')
    if array.shape != (size,):
        raise ValueError(
            f'{expected} y llegó uno de forma {array.shape}: f calcula un ejemplo; '
            'para un lote, jax.vmap(f, in_axes=(None, 0))(leaves, lote)'
        )
    return array


# De un grupo a operaciones de JAX

Places = npt.NDArray[np.intp]  # la última dimensión es el par (array, posición)


class _Arrays:
    """En qué array quedó cada lugar. Los primeros son las hojas, las entradas y las constantes."""

    def __init__(self, inputs: int, trained: int) -> None:
        # Por espacio, la posición donde empieza cada array y cuál es.
        self._starts = {False: [0, trained], True: [0]}
        self._numbers = {False: [0, 2], True: [1]}
        self._count = 3
        self._operations = 0

    def step(self, group: Group) -> Step:
        """La función que calcula un grupo."""
        step = self._elementwise(group) if isinstance(group, Elementwise) else self._sums(group)
        self._starts[group.by_row].append(group.start)
        self._numbers[group.by_row].append(self._count)
        self._count += 1
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise ValueError(
                f'el grafo es demasiado largo: para JAX son más de {MAX_OPERATIONS} operaciones '
                'sobre arrays, una detrás de otra, y podría tardar minutos en compilarlas. Usá '
                'Tape.forward, que no compila el grafo y no tiene máximo'
            )
        return step

    def find(self, operand: Operand) -> Places:
        starts, numbers = self._starts[operand.by_row], np.array(self._numbers[operand.by_row])
        which = np.searchsorted(starts, operand.places, side='right') - 1
        self._operations += len(np.unique(which))
        return np.stack([numbers[which], operand.places - np.array(starts)[which]], axis=-1)

    def _elementwise(self, group: Elementwise) -> Step:
        operands = [self.find(x) for x in (group.x, group.y) if x]
        op, exponent = _rules.key(group.op), group.exponent
        return lambda arrays: _apply(op, exponent, *(_read(arrays, x) for x in operands))

    def _sums(self, group: Sums) -> Step:
        terms = [self._list(lists) for lists in group.lists]
        if group.dots:
            w, x = self.find(group.dots.w), self.find(group.dots.x)
            terms.append(lambda arrays: _dots(_read(arrays, w), _read(arrays, x)))
        if group.dots and group.dots.bias:
            bias, lists = self.find(group.dots.bias), group.dots.x.places.shape[2]
            terms.append(lambda arrays: jnp.repeat(_read(arrays, bias).ravel(), lists))
        return lambda arrays: sum(term(arrays) for term in terms)

    def _list(self, lists: Lists) -> Step:
        x, y = self.find(lists.x), self.find(lists.y) if lists.y else None
        n, owner = len(lists.lengths), np.repeat(np.arange(len(lists.lengths)), lists.lengths)
        regular = (lists.lengths == lists.lengths[0]).all()

        def total(arrays: list[Any]) -> Any:
            terms = _read(arrays, x) if y is None else _read(arrays, x) * _read(arrays, y)
            if regular:
                return terms.reshape(n, -1).sum(1)
            return jax.ops.segment_sum(terms, owner, n, indices_are_sorted=True)

        return total


def _dots(w: Any, x: Any) -> Any:
    # Con menos precisión, una GPU redondea los float32 a tres dígitos antes de multiplicarlos.
    return jnp.matmul(w, x, precision='highest').ravel()


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _apply(op: str, exponent: float | None, x: Any, y: Any = None) -> Any:
    """La operación, con las derivadas del motor: en los bordes, JAX tiene otras."""
    return _RULES[op](x, y if exponent is None else exponent)


def _apply_jvp(op: str, exponent: float | None, operands: Any, tangents: Any) -> tuple[Any, Any]:
    rule, out = _RULES[op], _apply(op, exponent, *operands)
    x, y = operands[0], operands[-1] if exponent is None else exponent
    slope = rule.to_x(x, y, out, tangents[0])
    if rule.to_y:
        slope = slope + rule.to_y(x, y, out, tangents[1])
    return out, slope


_apply.defjvp(_apply_jvp)


def _read(arrays: list[Any], places: Places) -> Any:
    """Los números que están en `places`, con su forma."""
    sources, positions = places.reshape(-1, 2).T
    pieces = [_take(arrays[k], positions[sources == k]) for k in np.unique(sources)]
    by_source = np.argsort(sources, kind='stable')
    return _take(jnp.concatenate(pieces), np.argsort(by_source)).reshape(places.shape[:-1])


def _take(array: Any, positions: npt.NDArray[np.intp]) -> Any:
    """array[positions]; si son correlativas, con una porción, que se deriva mucho más rápido."""
    start, stop = int(positions[0]), int(positions[-1]) + 1
    if np.array_equal(positions, np.arange(start, stop)):
        return jax.lax.slice(array, [start], [stop])
    return array.at[positions].get(mode='promise_in_bounds')
