"""No dejar las cosas a medias: devolverlas a como estaban, o cambiarlas todas o ninguna."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def unchanged(objects: Iterable[Any], *attributes: str) -> Iterator[None]:
    """Al salir, pase lo que pase, esos atributos de los objetos vuelven a lo que eran al entrar.

    with unchanged(nodes, 'grad'):
        loss.backward()  # mirar los gradientes sin dejar rastros
    """
    before = [(x, name, getattr(x, name)) for x in objects for name in attributes]
    try:
        yield
    finally:
        for x, name, old in before:
            setattr(x, name, old)


def assign_data(objects: Sequence[Any], new: Sequence[Any]) -> None:
    """Asigna el `data` de cada objeto: a todos o, si algo falla, a ninguno, también con Ctrl-C.

    Donde había un array no pone otro, sino que cambia sus números.
    """
    before = [x.data for x in objects]
    arrays = []  # los que ya cambiaron, con los números que tenían
    try:
        for x, value in zip(objects, new, strict=True):
            if type(value) is float or not getattr(x.data, 'ndim', False):
                x.data = value
            else:
                arrays.append((x.data, x.data.copy()))
                x.data[...] = value
    except BaseException:
        for array, numbers in arrays:
            array[...] = numbers
        for x, old in zip(objects, before, strict=True):
            x.data = old
        raise
