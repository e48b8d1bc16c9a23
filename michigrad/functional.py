"""Softmax y las funciones de pérdida, escritas con operaciones de Value: el gradiente sale solo.

Reciben Values o números. Cada una acepta un ejemplo o una lista de ejemplos (lista, tupla o array)
y devuelve un solo Value: con reduction='mean' el promedio, con reduction='sum' la suma. Los nombres
y los resultados son los de torch.nn.functional.
"""

from __future__ import annotations

import functools
import math
import operator
import reprlib
from collections.abc import Sequence
from typing import Any

from michigrad.engine import Value

_SMALLEST = math.exp(-100)  # el log de binary_cross_entropy no baja de -100, como en PyTorch


def is_list(x: Any) -> bool:
    """Dice si `x` es una lista, una tupla o un array: varios números y no uno."""
    if isinstance(x, Sequence):
        return not isinstance(x, (str, bytes))
    return bool(getattr(x, 'ndim', 0))


def softmax(logits: Any) -> Any:
    """Convierte números cualesquiera en probabilidades: softmax(z)_i = e^z_i / Σ_j e^z_j.

    Args:
        logits: una lista de n números o Values, o una lista de listas.

    Returns:
        Una lista de n Values entre 0 y 1 que suman 1, o una por ejemplo. De un Value solo, un Value
        que vale 1.

    Raises:
        TypeError, ValueError: si algo no es un número o si la lista está vacía.
    """
    if not is_list(logits):
        return softmax([logits])[0]
    if _is_batch(logits):
        return [softmax(_one_example(row)) for row in logits]
    exps = [z.exp() for z in _shifted(logits)]
    total = _sum(exps)
    return [e / total for e in exps]


def mse_loss(prediction: Any, target: Any, reduction: str = 'mean') -> Value:
    """Error cuadrático: (ŷ - y)^2 de cada número.

    Args:
        prediction: ŷ, un número o Value, una lista o una lista de listas.
        target: y, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma.

    Raises:
        TypeError, ValueError: si algo no es un número o si las formas no coinciden.
    """
    return _reduce([(p - t) ** 2 for p, t in _pairs(prediction, target)], reduction)


def hinge_loss(score: Any, target: Any, reduction: str = 'mean') -> Value:
    """Pérdida de margen máximo (la de las SVM): max(0, 1 - y·s).

    Args:
        score: s, el puntaje, o una lista; su signo es la clase que predice.
        target: y, -1 o 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma.

    Raises:
        TypeError, ValueError: si algo no es un número, si las formas no coinciden o si y no es
            -1 ni 1.
    """
    pairs = _pairs(score, target)
    for _, t in pairs:
        if not isinstance(t, Value) and t not in (-1, 1):
            raise ValueError(
                f'en hinge_loss el objetivo es -1 o 1: llegó {t}; si es 0 o 1, usá 2*y - 1'
            )
    return _reduce([(1 - t * s).relu() for s, t in pairs], reduction)


def binary_cross_entropy(probability: Any, target: Any, reduction: str = 'mean') -> Value:
    """Entropía cruzada de dos clases: -(y·log(p) + (1 - y)·log(1 - p)).

    Como en PyTorch, el log no baja de -100, así que la pérdida es finita también en p = 0 y p = 1.
    Donde el log está recortado su derivada es 0 (PyTorch pone ahí hasta 1e12). Si p sale de un
    sigmoid, binary_cross_entropy_with_logits hace lo mismo y no se recorta nunca.

    Args:
        probability: p, entre 0 y 1, o una lista.
        target: y, la probabilidad verdadera, entre 0 y 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma.

    Raises:
        TypeError, ValueError: si algo no es un número o no está entre 0 y 1, o si las formas no
            coinciden.
    """
    pairs = _pairs(probability, target)
    for p, t in pairs:
        _check_probability(t, 'el objetivo')
        if not 0 <= p.data <= 1:
            raise ValueError(
                f'la probabilidad está entre 0 y 1: llegó {p.data}; si es un logit, '
                'usá binary_cross_entropy_with_logits'
            )
    return _reduce([-(t * _log(p) + (1 - t) * _log(1 - p)) for p, t in pairs], reduction)


def binary_cross_entropy_with_logits(logit: Any, target: Any, reduction: str = 'mean') -> Value:
    """Entropía cruzada de dos clases con p = sigmoid(z), estable para cualquier z.

    Es log(1 + e^z) - y·z, escrita sin exponentes positivos, que se desbordan:
    (1/2 - y)·z + |z|/2 + log(1 + e^-|z|). Su derivada es sigmoid(z) - y.

    Args:
        logit: z, cualquier número o Value, o una lista.
        target: y, la probabilidad verdadera, entre 0 y 1, de la misma forma.
        reduction: 'mean' promedia sobre todos los números; 'sum' los suma.

    Raises:
        TypeError, ValueError: si algo no es un número, si las formas no coinciden o si y no está
            entre 0 y 1.
    """
    losses = []
    for z, t in _pairs(logit, target):
        _check_probability(t, 'el objetivo')
        size = abs(z)
        losses.append((0.5 - t) * z + size * 0.5 + ((-size).exp() + 1).log())
    return _reduce(losses, reduction)


def cross_entropy(logits: Any, target: Any, reduction: str = 'mean') -> Value:
    """Entropía cruzada de n clases: -Σ_i p_i·log(softmax(z)_i), que con un índice c es
    log(Σ_j e^z_j) - z_c.

    Antes se le resta a cada z el mayor, que no cambia el resultado, y así e^z no se desborda.

    Args:
        logits: z, una lista de n números o Values sin normalizar, o una lista de listas.
        target: el índice de la clase verdadera (un int de 0 a n-1) o las n probabilidades. Si
            logits es una lista de ejemplos, una lista de eso.
        reduction: 'mean' promedia sobre los ejemplos; 'sum' los suma.

    Raises:
        TypeError, ValueError: si los logits no son números, si el índice no es de una clase, si las
            probabilidades no son n que suman 1, o si no hay un objetivo por ejemplo.
    """
    if not is_list(logits):
        raise TypeError(f'los logits son una lista con uno por clase: llegó {reprlib.repr(logits)}')
    if not _is_batch(logits):
        return _reduce([_cross_entropy(logits, target)], reduction)
    if not is_list(target) or len(target) != len(logits):
        raise ValueError(
            f'hay {len(logits)} ejemplos y hace falta un objetivo por ejemplo: '
            f'llegó {reprlib.repr(target)}'
        )
    losses = [_cross_entropy(_one_example(z), t) for z, t in zip(logits, target, strict=True)]
    return _reduce(losses, reduction)


def _cross_entropy(logits: Any, target: Any) -> Value:
    shifted = _shifted(logits)
    log_total = _sum([z.exp() for z in shifted]).log()
    if not is_list(target):
        return log_total - shifted[_class_index(target, len(shifted))]
    probabilities = _probabilities(target, len(shifted))
    return _sum([p * (log_total - z) for p, z in zip(probabilities, shifted, strict=True)])


def _shifted(logits: Any) -> list[Value]:
    """Le resta a cada logit el mayor, como constante: la derivada total respecto de él es 0."""
    values = [_lift(z) for z in logits]
    if not values:
        raise ValueError('los logits son una lista con uno por clase: llegó una lista vacía')
    highest = Value(max(z.data for z in values), name='máximo')
    return [z - highest for z in values]


def _class_index(target: Any, classes: int) -> int:
    try:
        index = operator.index(target)
    except TypeError:
        raise TypeError(
            f'el objetivo es el índice de una clase (un int) o la lista de sus {classes} '
            f'probabilidades: llegó {reprlib.repr(target)}'
        ) from None
    if not 0 <= index < classes:
        raise ValueError(f'con {classes} clases el índice va de 0 a {classes - 1}: llegó {index}')
    return index


def _probabilities(target: Any, classes: int) -> list[Any]:
    """Controla las probabilidades verdaderas; las que son Values pueden cambiar y no se miran."""
    if len(target) != classes:
        raise ValueError(f'hay {classes} clases y llegaron {len(target)} probabilidades')
    numbers = [_number_or_value(p) for p in target]
    for p in numbers:
        _check_probability(p, 'cada probabilidad')
    if not any(isinstance(p, Value) for p in numbers) and abs(sum(numbers) - 1) > 1e-4:
        raise ValueError(f'las probabilidades suman 1: las que llegaron suman {sum(numbers)}')
    return numbers


def _check_probability(p: Any, what: str) -> None:
    if not isinstance(p, Value) and not 0 <= p <= 1:
        raise ValueError(f'{what} está entre 0 y 1: llegó {p}')


def _log(p: Value) -> Value:
    """log(p), pero no menos que -100: max(p, e^-100) es relu(p - e^-100) + e^-100."""
    return ((p - _SMALLEST).relu() + _SMALLEST).log()


def _pairs(prediction: Any, target: Any, levels: int = 2) -> list[tuple[Value, Any]]:
    """Empareja cada predicción con su objetivo, en una sola lista, y controla las formas."""
    if not is_list(prediction) and not is_list(target):
        return [(_lift(prediction), _number_or_value(target))]
    if _length(prediction) != _length(target):
        raise ValueError(
            'la predicción y el objetivo tienen que tener la misma forma: llegaron '
            f'{_length(prediction)} y {_length(target)}'
        )
    if not levels:
        raise TypeError('se espera un ejemplo o una lista de ejemplos: llegaron más niveles')
    return [
        pair for p, t in zip(prediction, target, strict=True) for pair in _pairs(p, t, levels - 1)
    ]


def _length(x: Any) -> str:
    return f'una lista de {len(x)}' if is_list(x) else 'un número'


def _is_batch(x: Any) -> bool:
    return len(x) > 0 and is_list(next(iter(x)))


def _one_example(row: Any) -> Any:
    if not is_list(row) or _is_batch(row):
        raise TypeError(
            f'en una lista de ejemplos cada uno es una lista de números: llegó {reprlib.repr(row)}'
        )
    return row


def _lift(x: Any) -> Value:
    return x if isinstance(x, Value) else Value(x)


def _number_or_value(x: Any) -> Any:
    return x if isinstance(x, Value) else Value(x).data


def _sum(values: list[Value]) -> Value:
    """La suma, sin el 0 + ... de sum(), que en el grafo serían dos nodos de más."""
    return functools.reduce(operator.add, values)


def _reduce(losses: list[Value], reduction: str) -> Value:
    if not isinstance(reduction, str) or reduction not in ('mean', 'sum'):
        raise ValueError(f"reduction es 'mean' o 'sum': llegó {reprlib.repr(reduction)}")
    if not losses:
        raise ValueError('hace falta al menos un ejemplo: llegó una lista vacía')
    total = _sum(losses)
    return total if reduction == 'sum' or len(losses) == 1 else total / len(losses)
