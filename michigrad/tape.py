"""La cinta: graba un grafo una vez y lo repite a toda velocidad, con otros datos.

Armar un grafo de Values en cada paso del entrenamiento es lo que hace lento a un autograd escalar.
Si el grafo es siempre el mismo y solo cambian los números, alcanza con armarlo una vez: `Tape` lo
traduce a una lista de instrucciones sobre arrays, que ejecuta numba (extra `fast`) o numpy.

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
  se hicieron, no el programa que las hizo.
- El `data` de las hojas (parámetros y constantes) se lee de nuevo en cada `forward`.
- Los nodos intermedios no se enteran: la cinta no toca su `data` ni su `grad`.
"""

from __future__ import annotations

import functools
import logging
import operator
import os
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from michigrad import _kernels
from michigrad._kernels import ADD, DOT, MUL, OPCODES, POW_CONST, Backend, Floats, Ints
from michigrad.engine import Value, topological_order

__all__ = ['ParameterArray', 'Tape']

_LEAF = -1
