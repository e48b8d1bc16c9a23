"""Una neurona: su predicción, sus gradientes y unos pasos de entrenamiento.

    python examples/01_neurona.py

Imprime cómo cambian los números y dibuja el grafo con los gradientes ya calculados (graph.png).
Tarda menos de un segundo.
"""

import numpy as np

from common import read_options
from michigrad.engine import Value
from michigrad.visualize import show_graph

options = read_options(__doc__, '--salida')

# Definición de los pesos
np.random.seed(42)
W0 = Value(np.random.random(), name='W₀')
W1 = Value(np.random.random(), name='W₁')
b = Value(np.random.random(), name='b')
print(W0)  # Value(data=0.3745401188473625, grad=0, name=W₀)

# Un ejemplo: las entradas y el resultado que se espera
x0 = Value(0.5, name='x₀')
x1 = Value(1.0, name='x₁')
y = Value(2.0, name='y')

# Forward pass: la predicción y la pérdida
yhat = x0 * W0 + x1 * W1 + b
yhat.name = 'ŷ'
print(yhat)  # Value(data=1.8699783076450025, grad=0, name=ŷ)
L = (y - yhat) ** 2
L.name = 'L'
print(L)  # Value(data=0.016905640482857615, grad=0, name=L)

# Backward pass: la derivada de L respecto de cada nodo
L.backward()
print(L)  # Value(data=0.016905640482857615, grad=1, name=L)
print(W0)  # Value(data=0.3745401188473625, grad=-0.1300216923549975, name=W₀)

# Del tamaño de una diapositiva, en pulgadas
graph = show_graph(L, width=13.3, height=7.5)
print('El grafo quedó en', graph.save(options.salida / 'graph.png'))

# Actualización: cada peso, en la dirección contraria a su gradiente. La pérdida baja.
for _ in range(3):
    for w in (W0, W1, b):
        w.data -= 0.1 * w.grad
        w.grad = 0
    L = (y - (x0 * W0 + x1 * W1 + b)) ** 2
    L.backward()
    print(f'{L:.6f}')
