"""Con qué números empiezan los pesos de una capa: `nn.init`, como torch.nn.init.

    model = MLP(64, [32, 10])
    for layer in model.layers:
        nn.init.kaiming_uniform_(layer.weight)

Los pesos de random.uniform(-1, 1), los de micrograd, sirven en capas chicas. En una ancha, cada
neurona suma muchos términos y su salida crece con la cantidad de entradas, fan_in; los gradientes,
con la de salidas, fan_out. Estas funciones eligen un tamaño que los mantiene parejos de capa en
capa. Los números salen del módulo random, en orden.
"""

from __future__ import annotations

import math
import random
from typing import Any

from michigrad._checks import is_list, setting, values
from michigrad._numbers import short

Weight = Any  # una lista de filas de Values: una fila por neurona

_GAINS = {'linear': 1.0, 'sigmoid': 1.0, 'tanh': 5 / 3, 'relu': math.sqrt(2)}


def kaiming_uniform_(weight: Weight, nonlinearity: str = 'relu') -> Weight:
    """Pesos uniformes entre -c y c, con c = gain·√(3 / fan_in) (He et al., 2015).

    Args:
        weight: los pesos de una capa, layer.weight.
        nonlinearity: la activación que sigue: 'relu' (gain = √2), 'tanh' (5/3), 'sigmoid' o
            'linear' (1).

    Returns:
        `weight`, con otros datos.

    Raises:
        TypeError, ValueError: si no son los pesos de una capa o no es una de esas activaciones.
    """
    fan_in, _ = _fans(weight)
    return _uniform(weight, _gain(nonlinearity) / math.sqrt(fan_in))


def kaiming_normal_(weight: Weight, nonlinearity: str = 'relu') -> Weight:
    """Pesos normales de media 0 y desvío gain / √fan_in (He et al., 2015).

    Los argumentos y los errores son los de kaiming_uniform_.
    """
    fan_in, _ = _fans(weight)
    return _normal(weight, _gain(nonlinearity) / math.sqrt(fan_in))


def xavier_uniform_(weight: Weight, gain: float = 1.0) -> Weight:
    """Pesos uniformes entre -c y c, con c = gain·√(6 / (fan_in + fan_out)) (Glorot y Bengio, 2010).

    Args:
        weight: los pesos de una capa, layer.weight.
        gain: cuánto agrandarlos, según la activación que sigue: 5/3 para tanh.

    Returns:
        `weight`, con otros datos.

    Raises:
        TypeError, ValueError: si no son los pesos de una capa o `gain` no es un número.
    """
    return _uniform(weight, setting('gain', gain) * math.sqrt(2 / sum(_fans(weight))))


def xavier_normal_(weight: Weight, gain: float = 1.0) -> Weight:
    """Pesos normales de media 0 y desvío gain·√(2 / (fan_in + fan_out)) (Glorot y Bengio, 2010).

    Los argumentos y los errores son los de xavier_uniform_.
    """
    return _normal(weight, setting('gain', gain) * math.sqrt(2 / sum(_fans(weight))))


def _fans(weight: Weight) -> tuple[int, int]:
    """Cuántas entradas y cuántas salidas tiene la capa de esos pesos."""
    if not is_list(weight) or not weight or not all(map(is_list, weight)):
        raise TypeError(
            'se esperan los pesos de una capa, layer.weight, o de una neurona, [neurona.w]: '
            f'llegó {short(weight)}'
        )
    sizes = {len(values('una fila de weight', row)) for row in weight}
    if len(sizes) > 1 or sizes == {0}:
        raise ValueError(f'las filas de weight tienen que ser iguales: miden {sorted(sizes)}')
    return sizes.pop(), len(weight)


def _gain(nonlinearity: Any) -> float:
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        raise ValueError(
            f'nonlinearity es una de {", ".join(map(repr, _GAINS))}: llegó {short(nonlinearity)}'
        )
    return _GAINS[nonlinearity]


def _uniform(weight: Weight, deviation: float) -> Weight:
    bound = math.sqrt(3) * deviation  # el desvío de una uniforme entre -c y c es c/√3
    for row in weight:
        for w in row:
            w.data = random.uniform(-bound, bound)
    return weight


def _normal(weight: Weight, deviation: float) -> Weight:
    for row in weight:
        for w in row:
            w.data = random.gauss(0, deviation)
    return weight
