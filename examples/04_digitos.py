"""Dígitos escritos a mano: una red que los reconoce, entrenada con minibatches, Adam y Tape.

    python -m pip install -e ".[examples]"
    python examples/04_digitos.py

Los datos son los de load_digits, de scikit-learn: 1797 imágenes de 8x8 puntos. La red tiene 64
entradas, 32 neuronas ocultas y 10 salidas, una por dígito. La entropía cruzada compara
softmax(salidas), diez probabilidades, con el dígito verdadero. Un cuarto de las imágenes queda
afuera del entrenamiento: con ellas se mide si la red aprendió o solo memorizó.

Imprime la pérdida y la exactitud, guarda los pesos (04_digitos.json) y controla que otra red que
los carga responda lo mismo. Dibuja algunos aciertos y los errores más convencidos, con sus
probabilidades (04_digitos.png). Tarda unos 5 segundos.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

from common import GRAY, GREEN, RED, extras, read_options, save_picture, subplots

with extras('examples'):
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from tqdm import tqdm

from michigrad.engine import Value
from michigrad.functional import cross_entropy, softmax
from michigrad.nn import MLP
from michigrad.optim import Adam
from michigrad.tape import Tape

BATCH_SIZE = 32


def new_model() -> MLP:
    random.seed(42)
    return MLP(64, [32, 10])


def load_data() -> list[Any]:
    """Imágenes y dígitos de entrenamiento y de prueba; los puntos van de 0 a 1."""
    images, digits = load_digits(return_X_y=True)
    data = train_test_split(images / 16, digits, test_size=0.25, random_state=42, stratify=digits)
    X_train, X_test, y_train, y_test = data
    return [X_train, y_train, X_test, y_test]


def record_loss(model: MLP) -> Tape:
    """Graba la pérdida de una imagen. El dígito entra como diez probabilidades: un 1 y nueve 0."""
    pixels = [Value(0.0) for _ in range(64)]
    target = [Value(0.0) for _ in range(10)]
    return Tape(cross_entropy(model(pixels), target), inputs=[*pixels, *target])


def record_probabilities(model: MLP) -> Tape:
    pixels = [Value(0.0) for _ in range(64)]
    return Tape(softmax(model(pixels)), inputs=pixels)


def train(model: MLP, X: Any, y: Any, epochs: int) -> list[float]:
    """Entrena y devuelve la pérdida promedio de cada época."""
    tape = record_loss(model)
    optimizer = Adam(model.parameters(), lr=0.01)
    rows = np.hstack([X, np.eye(10)[y]])
    shuffler = np.random.default_rng(42)
    losses = []
    bar = tqdm(range(epochs), desc='épocas')
    for _ in bar:
        shuffler.shuffle(rows)
        total = 0.0
        for start in range(0, len(rows), BATCH_SIZE):
            optimizer.zero_grad()
            total += tape.forward(rows[start : start + BATCH_SIZE]).sum()
            tape.backward()
            optimizer.step()
        losses.append(total / len(rows))
        bar.set_postfix_str(f'pérdida {losses[-1]:.4f}')
    return losses


def save(model: MLP, file: Path) -> None:
    file.write_text(json.dumps(model.state_dict()), encoding='utf-8')


def load(file: Path) -> MLP:
    model = new_model()
    model.load_state_dict(json.loads(file.read_text(encoding='utf-8')))
    return model


def draw(X: Any, y: Any, probabilities: Any, file: Path) -> None:
    """Seis aciertos y los seis errores más convencidos."""
    guesses = probabilities.argmax(axis=1)
    right, wrong = np.flatnonzero(guesses == y), np.flatnonzero(guesses != y)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    fig, axes = subplots(4, 6, height=9, height_ratios=[2, 1, 2, 1])
    for pair, chosen in ((axes[:2], right), (axes[2:], wrong)):
        for top, bottom, i in zip(*pair, chosen, strict=False):
            draw_digit(top, bottom, X[i], y[i], probabilities[i])
    summary = f'{len(right)} aciertos y {len(wrong)} errores en {len(y)} imágenes de prueba'
    fig.suptitle(f'{summary} (en verde, el dígito verdadero)', weight='bold')
    save_picture(fig, file)


def draw_digit(top: Any, bottom: Any, x: Any, digit: int, probabilities: Any) -> None:
    """La imagen y, debajo, la probabilidad de cada dígito."""
    guess = probabilities.argmax()
    colors = [GRAY] * 10
    colors[guess] = RED
    colors[digit] = GREEN
    top.imshow(x.reshape(8, 8), cmap='gray_r')
    top.set_title(f'es {digit}, dice {guess} ({probabilities[guess]:.0%})', color=colors[guess])
    top.axis('off')
    bottom.bar(range(10), probabilities, color=colors)
    bottom.set(ylim=(0, 1), xticks=range(10), yticks=[0, 1])


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')
    X_train, y_train, X_test, y_test = load_data()
    model = new_model()
    start = time.perf_counter()
    losses = train(model, X_train, y_train, epochs=5 if options.rapido else 20)
    print(f'Entrenamiento: {time.perf_counter() - start:.1f} s')
    print(f'Pérdida: de {losses[0]:.3f} en la primera época a {losses[-1]:.3f} en la última')

    tape = record_probabilities(model)
    probabilities = tape.forward(X_test)
    accuracies = [
        (outputs.argmax(axis=1) == y).mean()
        for outputs, y in ((tape.forward(X_train), y_train), (probabilities, y_test))
    ]
    print(f'Exactitud: {accuracies[0]:.1%} en entrenamiento, {accuracies[1]:.1%} en prueba')

    file = options.salida / '04_digitos.json'
    save(model, file)
    same = (record_probabilities(load(file)).forward(X_test) == probabilities).all()
    print(f'¿La red que carga los pesos del JSON responde lo mismo? {"Sí" if same else "No"}')
    print(f'Pesos: {file}')
    draw(X_test, y_test, probabilities, options.salida / '04_digitos.png')


if __name__ == '__main__':
    main()
