"""La cinta: graba un grafo una vez y lo repite a toda velocidad, con otros datos.

Armar un grafo de Values en cada paso del entrenamiento es lo que hace lento a un autograd escalar.
Si el grafo es siempre el mismo y solo cambian los números, alcanza con armarlo una vez: `Tape` lo
traduce a pocas operaciones sobre arrays, que ejecuta numpy.

    x0, x1, y = Value(0.0), Value(0.0), Value(1.0)
    loss = (1 - y * model([x0, x1])).relu()       # para UN ejemplo, como siempre
    tape = Tape(loss, inputs=[x0, x1, y])
    for epoch in range(100):
        optimizer.zero_grad()
        losses = tape.forward(batch)              # una fila por ejemplo, una columna por entrada
        tape.backward()                           # el gradiente promedio, en el .grad de las hojas
        optimizer.step()

Grabar tiene consecuencias:

- Los `if` y los `for` de Python quedan como estaban al grabar: la cinta repite las operaciones que
  se hicieron, no el programa que las hizo. También el `max` con que softmax y cross_entropy evitan
  que e^z se desborde: con un logit 709 mayor que el más grande al grabar, da OverflowError.
- El `data` de las hojas (parámetros y constantes) se lee de nuevo en cada `forward`.
- Los nodos intermedios no se enteran: la cinta no toca su `data` ni su `grad`.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from michigrad._anomaly import check_tape, watching
from michigrad._checks import check_reduction, is_value, leaves, values
from michigrad._executor import Executor
from michigrad._numbers import assigned, short
from michigrad._record import Record
from michigrad.engine import Value

__all__ = ['ParameterArray', 'Tape']

Floats = npt.NDArray[np.float64]


class ParameterArray:
    """Los parámetros de un modelo en dos arrays de float64, `data` y `grad`.

    Con miles de parámetros, pasar los datos y los gradientes entre los Values y la cinta tarda más
    que la cuenta. Una cinta grabada con `parameters=` trabaja sobre estos arrays, y un optimizador
    también, porque un ParameterArray es para él un parámetro más:

        weights = ParameterArray(model.parameters())
        tape = Tape(loss, inputs=[x0, x1, y], parameters=weights)
        optimizer = SGD([weights], lr=0.1)
        ...                                       # el mismo entrenamiento
        weights.write_back()                      # recién ahora cambian los Values

    Args:
        parameters: los parámetros, como model.parameters(). Sus datos y gradientes se copian.

    Atributos: `data` y `grad`, en el orden de `parameters`. Se les puede asignar un número, para
    todos, o un array con uno para cada uno; los arrays se rellenan, no se reemplazan.

    Raises:
        TypeError: si algún parámetro no es un Value o si lo que se asigna no son números reales.
        ValueError: si no hay parámetros, si alguno está repetido o es el resultado de una
            operación, o si no se asigna un número para cada uno. No cambia nada.
    """

    def __init__(self, parameters: Iterable[Value]) -> None:
        self.values = leaves('parameters', parameters)
        if not self.values:
            raise ValueError('parameters está vacía: no hay nada que entrenar')
        self._data = np.array([assigned(v, 'data') for v in self.values], dtype=np.float64)
        self._grad = np.array([assigned(v, 'grad') for v in self.values], dtype=np.float64)

    @property
    def data(self) -> Floats:
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        _fill('data', self._data, data)

    @property
    def grad(self) -> Floats:
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        _fill('grad', self._grad, grad)

    def write_back(self) -> None:
        """Copia los datos y los gradientes a los Values."""
        for v, data, grad in zip(
            self.values, self._data.tolist(), self._grad.tolist(), strict=True
        ):
            v.data = data
            v.grad = grad


class Tape:
    """Un grafo grabado, que se recalcula y se deriva con otros datos sin volver a armarlo.

    Con `inputs`, las entradas no reciben gradiente: son datos, no algo que se entrene, y la cinta
    tampoco toca su `data`.

    Los números son los del motor, salvo el redondeo: las sumas largas se hacen con productos de
    matrices, que suman en otro orden. La diferencia es menor que 1e-12 de la suma de los tamaños de
    los términos. Se nota si los grandes se cancelan: 1e16 + 1 - 1e16 es 0 de izquierda a derecha, y
    en otro orden puede ser 1.

    Varios hilos pueden usar la misma cinta a la vez: `backward` deriva el último `forward` del hilo
    que lo llama, y los gradientes de todos se suman en las mismas hojas.

    Args:
        root: el resultado, o una lista de resultados.
        inputs: las hojas que toman un valor distinto en cada fila del lote.
        parameters: un ParameterArray, para que sus parámetros se lean y se deriven ahí.

    Raises:
        TypeError: si algo no es un Value, o `parameters` no es un ParameterArray.
        ValueError: si una entrada no es una hoja, está repetida, es un parámetro o no influye en el
            resultado, o si en el grafo hay una operación propia.
    """

    def __init__(
        self,
        root: Value | Iterable[Value],
        inputs: Iterable[Value] = (),
        parameters: ParameterArray | None = None,
    ) -> None:
        self._single = is_value(root)
        self._roots = [root] if is_value(root) else values('root', root)
        if not self._roots:
            raise ValueError('root está vacía: pasá un Value o una lista con al menos uno')
        if parameters is not None and not isinstance(parameters, ParameterArray):
            raise TypeError(
                f'parameters es un ParameterArray(model.parameters()): llegó {short(parameters)}'
            )
        self._inputs = leaves('inputs', inputs)
        self._parameters = parameters
        trained = parameters.values if parameters else []
        self._record = Record(self._roots, self._inputs, trained)
        self._pack = struct.Struct(f'{len(self._record.leaves)}d').pack_into
        self._by_thread = threading.local()

    def forward(self, batch: Any = None) -> Any:
        """Recalcula el resultado con los datos que tienen ahora las hojas.

        Args:
            batch: el lote, de forma (B, len(inputs)): una fila por ejemplo y una columna por
                entrada, en el orden de `inputs`. Sin entradas no va.

        Returns:
            Un array de float64 de forma (B,), o (B, cantidad) si la cinta tiene una lista de
            resultados. Sin entradas, el nuevo `data` del resultado, que queda también en el Value
            (con una lista, un array).

        Raises:
            TypeError, ValueError: si el lote no es de números reales o no tiene esa forma, o si el
                `data` de una hoja no es un número.
            ValueError, ZeroDivisionError, OverflowError: si una operación no tiene resultado, como
                en el motor. El mensaje dice en qué fila del lote; los Values no cambian.
        """
        rows = self._check(batch)
        executor = self._executor()
        executor.rows = 0  # si algo falla, para backward es como si no hubiera habido forward
        self._read_leaves(executor.numbers)
        if watching.get():
            self._by_thread.batch = rows
            self._watch(rows)
        outs = executor.forward(rows)
        executor.rows = len(outs)
        if rows is not None:
            return outs[:, 0] if self._single else outs
        for v, data in zip(self._roots, outs[0].tolist(), strict=True):
            v.data = data
        return self._roots[0].data if self._single else outs[0]

    def backward(self, reduction: str = 'mean') -> None:
        """Suma en el `grad` de cada hoja el gradiente del último forward, como Value.backward.

        Args:
            reduction: 'mean', el gradiente promedio de las filas del lote, o 'sum', la suma.

        Raises:
            TypeError: si el `grad` de una hoja no es un número. No cambia ninguno.
            ValueError: si `reduction` no es ninguno de los dos.
            RuntimeError: si en este hilo no hubo un forward, si falló, o si la cinta tiene una
                lista de resultados.
        """
        check_reduction(reduction, 'mean', 'sum')
        if not self._single:
            raise RuntimeError(
                'backward deriva un resultado y esta cinta tiene una lista: grabá Tape(loss)'
            )
        executor = self._executor()
        if not executor.rows:
            raise RuntimeError('antes de backward() va un forward() que no haya fallado')
        if watching.get():
            self._watch(self._by_thread.batch, derive=True)
        executor.backward(executor.rows if reduction == 'mean' else 1)
        self._accumulate(executor.grads)

    def to_jax(self) -> tuple[Callable[..., Any], Any, list[str]]:
        """Traduce el grafo a JAX, para entrenarlo en otras placas o en muchas máquinas.

            weights = ParameterArray(model.parameters())
            tape = Tape(loss, inputs=[x0, x1, y], parameters=weights)
            f, leaves, names = tape.to_jax()
            batch_loss = lambda leaves, batch: jax.vmap(f, (None, 0))(leaves, batch).mean()
            step = jax.jit(jax.value_and_grad(batch_loss))
            for epoch in range(100):
                loss, grads = step(leaves, batch)
                leaves -= 0.1 * grads
            tape.load(leaves)                         # recién ahora cambian los Values

        Returns:
            `f`, una función pura: f(leaves, inputs) es el resultado para un ejemplo, un array de
            forma () o, si la cinta tiene una lista de resultados, (cantidad,). jax.jit la compila,
            jax.grad la deriva y jax.vmap la aplica a un lote. Una operación sin resultado da inf o
            nan, porque dentro de una función compilada no hay errores.
            `leaves`, el `data` que tienen ahora las hojas, en un array de JAX: de float32, o de
            float64 después de jax.config.update('jax_enable_x64', True). Si la cinta se grabó con
            `parameters`, son esos parámetros y las demás hojas quedan fijas; si no, son todas
            las hojas, también las constantes, como el 1 de 1 - x, que no hay que entrenar.
            `names`, el nombre de cada una.

        Raises:
            ImportError: si JAX no está instalado.
            TypeError: si el `data` de una hoja no es un número.
            ValueError: si el grafo es demasiado largo: XLA tardaría minutos en compilarlo.
        """
        try:
            import jax.numpy as jnp

            from michigrad import _jax
        except ImportError:
            raise ImportError('to_jax usa JAX, que no está: pip install "michigrad[jax]"') from None
        trained = self._trained()
        numbers = np.empty(self._record.shared)
        self._read_leaves(numbers)
        f = _jax.to_function(self._record, len(self._inputs), len(trained), numbers, self._single)
        return f, jnp.asarray(numbers[: len(trained)]), [v.name for v in trained]

    def load(self, leaves: Any) -> None:
        """Pone en las hojas, y en el ParameterArray, los números de `leaves`.

        Los nodos intermedios no se recalculan: para ver el grafo entero con los números nuevos hay
        que volver a armarlo.

        Args:
            leaves: un array con la forma y el orden del que devolvió `to_jax`.

        Raises:
            TypeError, ValueError: si no es de números reales o no tiene esa forma. No cambia nada.
        """
        trained = self._trained()
        expected = f'load espera un array de forma ({len(trained)},)'
        numbers = _numbers(expected, leaves)
        if numbers.shape != (len(trained),):
            raise ValueError(f'{expected}; llegó uno de forma {numbers.shape}')
        if self._parameters:
            self._parameters.data = numbers
        for v, data in zip(trained, numbers.tolist(), strict=True):
            v.data = data

    def _trained(self) -> list[Value]:
        """Las hojas que cambian al entrenar en JAX."""
        return self._parameters.values if self._parameters else self._record.leaves

    def _executor(self) -> Executor:
        """El de este hilo."""
        try:
            executor: Executor = self._by_thread.executor
        except AttributeError:
            executor = Executor(self._record, len(self._inputs), self._single)
            self._by_thread.executor = executor
        return executor

    def _watch(self, rows: Floats | None, derive: bool = False) -> None:
        """Dentro de detect_anomaly: busca qué operación da inf o nan, y en qué fila."""
        columns = {} if rows is None else dict(zip(self._inputs, rows.T, strict=True))
        weights = self._parameters
        trained = dict(zip(weights.values, weights.data.tolist(), strict=True)) if weights else {}
        check_tape(self._roots, columns, trained, derive)

    def _check(self, batch: Any) -> Floats | None:
        """Devuelve el lote como un array de float64, sin copiarlo si ya lo es."""
        if not self._inputs:
            if batch is not None:
                raise TypeError('esta cinta se grabó sin inputs: forward() va sin lote')
            return None
        expected = f'esta cinta espera un lote de forma (filas, {len(self._inputs)})'
        if batch is None:
            raise TypeError(f'{expected}: forward(lote)')
        rows = _numbers(expected, batch)
        if rows.ndim != 2 or rows.shape[1] != len(self._inputs):
            raise ValueError(f'{expected}; llegó uno de forma {rows.shape}')
        if not len(rows):
            raise ValueError(f'{expected}; llegó uno sin filas')
        return rows

    def _read_leaves(self, numbers: Floats) -> None:
        """Pone al principio de `numbers` el data que tienen ahora los parámetros y las hojas."""
        leaves, first = self._record.leaves, 0
        if self._parameters:
            data = self._parameters.data
            first = len(data)
            numbers[:first] = data
        # struct copia una lista de floats en la tercera parte del tiempo que numpy.
        self._pack(numbers.data, 8 * first, *_assigned(leaves, 'data'))

    def _accumulate(self, grads: Floats) -> None:
        """Suma los gradientes en las hojas: o en todas o, si alguna no se puede, en ninguna."""
        leaves, first = self._record.leaves, 0
        if self._parameters:
            first = len(self._parameters.grad)
        new = grads[first : first + len(leaves)].tolist()
        with _ACCUMULATING:
            before = _assigned(leaves, 'grad')
            totals = [old + more for old, more in zip(before, new, strict=True)]
            if self._parameters:
                self._parameters.grad += grads[:first]
            for v, total in zip(leaves, totals, strict=True):
                v.grad = total


# Varias cintas pueden compartir hojas, así que el turno para sumarles gradientes es uno solo.
_ACCUMULATING = threading.Lock()


def _assigned(leaves: list[Value], field: Literal['data', 'grad']) -> list[float]:
    """El `data` o el `grad` de cada hoja.

    Raises:
        TypeError, OverflowError: si alguno no es un número.
    """
    found = [v.data for v in leaves] if field == 'data' else [v.grad for v in leaves]
    try:  # si la suma es un float, son todos números; mirarlos uno por uno tarda diez veces más
        if type(sum(found, 0.0)) is float:
            return found
    except (TypeError, OverflowError):
        pass
    return [float(assigned(v, field)) for v in leaves]


def _fill(field: str, array: Floats, new: Any) -> None:
    """Rellena `array` con un número o con uno para cada parámetro."""
    if new is array:  # lo que queda de weights.data -= 1: ya está hecho
        return
    if type(new) in (int, float) and not abs(new) > 1e308:
        array.fill(new)
        return
    expected = f'{field} es un número, o un array de forma {array.shape}'
    numbers = _numbers(expected, new)
    if numbers.shape not in ((), array.shape):
        raise ValueError(f'{expected}; llegó uno de forma {numbers.shape}')
    array[...] = numbers


def _numbers(expected: str, data: Any) -> Floats:
    """Devuelve `data` como un array de float64, sin copiarlo si ya lo es.

    Raises:
        TypeError, ValueError: si no es de números reales; el mensaje empieza con `expected`.
    """
    try:
        array = np.asarray(data)
    except ValueError:
        raise ValueError(f'{expected}; llegó uno con filas de distinto largo') from None
    if array.dtype.kind not in 'biuf':
        raise TypeError(f'{expected}, de números reales; llegó {short(data)}')
    return array.astype(np.float64, copy=False)
