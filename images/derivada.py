"""Dibuja images/derivada.png: la derivada de x³ también es un grafo.

python images/derivada.py
"""

from pathlib import Path

from michigrad.autograd import grad
from michigrad.engine import Value
from michigrad.visualize import show_graph

x = Value(2.0, name='x')
y = x**3
y.name = 'y'
(dy,) = grad(y, x)
dy.name = 'dy/dx'
dy.backward()  # de paso, la segunda derivada queda en x.grad

show_graph(dy).save(Path(__file__).with_suffix('.png'))
