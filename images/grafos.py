"""Dibuja dos grafos que muestran las páginas: images/derivada.png e images/red.png.

python images/grafos.py
"""

import random
from pathlib import Path

from michigrad.autograd import grad
from michigrad.engine import Value
from michigrad.nn import MLP
from michigrad.visualize import show_graph

FOLDER = Path(__file__).parent

# La derivada de x³ también es un grafo.
x = Value(2.0, name='x')
y = x**3
y.name = 'y'
(dy,) = grad(y, x)
dy.name = 'dy/dx'
dy.backward()  # de paso, la segunda derivada queda en x.grad
show_graph(dy).save(FOLDER / 'derivada.png')

# Una red grande: una tabla por capa.
random.seed(1)
model = MLP(2, [16, 16, 1])
loss = (model([0.5, 1.0]) - 1) ** 2
loss.name = 'L'
loss.backward()
show_graph(loss, width=13.3, height=7.5, groups=True).save(FOLDER / 'red.png')
