"""Redes neuronales hechas de Values: Neuron, Layer y MLP, con la interfaz de micrograd."""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence
from numbers import Real
from typing import Any

from michigrad.engine import Value


def _size(name: str, size: Any) -> int:
    """Controla un tamaño: un entero mayor que 0."""
    try:
        whole = operator.index(size)
    except TypeError:
        raise TypeError(f'{name} tiene que ser un int mayor que 0: llegó {size!r}') from None
    if whole < 1:
        raise ValueError(f'{name} tiene que ser un int mayor que 0: llegó {size!r}')
    return whole


def _inputs(x: Any, nin: int, module: str) -> list[Value]:
    """Devuelve la entrada `x` como una lista de `nin` Values; un número solo vale por una de uno.

    Raises:
        TypeError: si `x` no es un ejemplo (una lista, tupla o fila de números o Values).
        ValueError: si no tiene `nin` componentes.
    """
    if isinstance(x, (Value, Real)) or getattr(x, 'ndim', None) == 0:
        x = [x]
    expected = f'{module} espera un ejemplo: una lista de {nin} números o Values'
    if isinstance(x, str) or not hasattr(x, '__iter__'):
        raise TypeError(f'{expected}; llegó {x!r}')
    x = list(x)
    if any(hasattr(xi, '__len__') and not isinstance(xi, str) for xi in x):
        raise TypeError(f'{expected}; llegaron varios: usá [modelo(x) for x in datos]')
    if len(x) != nin:
        raise ValueError(f'{expected}; llegó una de {len(x)}')
    return [xi if isinstance(xi, Value) else Value(xi) for xi in x]


class Module:
    """Lo que tienen en común una neurona, una capa y una red: parámetros que se entrenan.

    Una clase propia hereda de Module y define `parameters`.
    """

    def parameters(self) -> list[Value]:
        """Devuelve los parámetros: los Values que el entrenamiento modifica."""
        return []

    def zero_grad(self) -> None:
        """Pone en 0 el gradiente de cada parámetro: `backward` acumula."""
        for p in self.parameters():
            p.grad = 0


class Neuron(Module):
    """Una neurona: relu(w·x + b), o w·x + b con nonlin=False.

    Args:
        nin: cuántas entradas tiene.
        nonlin: si le aplica ReLU al resultado.

    Los pesos salen de random.uniform(-1, 1), en orden, y el sesgo empieza en 0, como en micrograd.
    """

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1), name=f'w{i}') for i in range(_size('nin', nin))]
        self.b = Value(0, name='b')
        self.nonlin = nonlin

    def __call__(self, x: Any) -> Value:
        """Calcula la salida para un ejemplo `x` de nin números o Values.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        inputs = _inputs(x, len(self.w), 'la neurona')
        act = sum((wi * xi for wi, xi in zip(self.w, inputs, strict=True)), self.b)
        return act.relu() if self.nonlin else act

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f'{"ReLU" if self.nonlin else "Linear"}Neuron({len(self.w)})'


class Layer(Module):
    """Una capa: nout neuronas que ven la misma entrada.

    Args:
        nin: cuántas entradas tiene.
        nout: cuántas neuronas, que son sus salidas.
        **kwargs: lo que se le pasa a cada Neuron (nonlin).
    """

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(_size('nout', nout))]
        _prefix_names('N', self.neurons)

    def __call__(self, x: Any) -> Any:
        """Devuelve la lista de las nout salidas o, si nout es 1, el Value solo.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        # Una sola vez para toda la capa: en el grafo, cada entrada es un nodo y no uno por neurona.
        inputs = _inputs(x, len(self.neurons[0].w), 'la capa')
        out = [n(inputs) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f'Layer of [{", ".join(str(n) for n in self.neurons)}]'


class MLP(Module):
    """Un perceptrón multicapa: ReLU en todas las capas menos la última.

    Args:
        nin: cuántas entradas tiene.
        nouts: cuántas neuronas tiene cada capa, en orden.
        nonlin: con False ninguna capa tiene ReLU y la red es lineal.
    """

    def __init__(self, nin: int, nouts: Sequence[int], nonlin: bool = True) -> None:
        if not isinstance(nouts, Sequence) or isinstance(nouts, str) or not nouts:
            raise TypeError(
                f'nouts es la lista de tamaños de las capas, como [16, 1]: llegó {nouts!r}'
            )
        sizes = [nin, *nouts]
        last = len(nouts) - 1
        self.layers = [
            Layer(sizes[i], sizes[i + 1], nonlin=nonlin and i != last) for i in range(len(nouts))
        ]
        _prefix_names('L', self.layers)

    def __call__(self, x: Any) -> Any:
        """Devuelve la salida de la última capa para un ejemplo `x` de nin números o Values.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f'MLP of [{", ".join(str(layer) for layer in self.layers)}]'


def _prefix_names(letter: str, modules: Sequence[Module]) -> None:
    """Antepone a los nombres de los parámetros su módulo: w0 pasa a N1.w0 y después a L0.N1.w0."""
    for i, module in enumerate(modules):
        for p in module.parameters():
            p.name = f'{letter}{i}.{p.name}'
