"""Dibuja gatite.png, la mascota: un gato que el detector tomó por un perro.

python images/gatite.py
"""

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.patches import Arc, Circle, Ellipse, Polygon, Rectangle

FUR, STRIPE, LIGHT, PINK, INK, BOX = (
    '#f0a35e',
    '#c9762f',
    '#fff3e2',
    '#f2a1a8',
    '#3b2a20',
    '#22a34a',
)


def main() -> None:
    fig, ax = plt.subplots(figsize=(5, 5), dpi=120)
    fig.patch.set_facecolor('#eef3f8')
    ax.set(xlim=(0, 10), ylim=(0, 10), aspect='equal')
    ax.axis('off')
    fig.subplots_adjust(0, 0, 1, 1)

    # Cola, cuerpo y patas
    ax.add_patch(
        Arc(
            (7.4, 2.6),
            2.4,
            3.6,
            angle=-20,
            theta1=-95,
            theta2=110,
            lw=16,
            color=FUR,
            capstyle='round',
        )
    )
    ax.add_patch(Ellipse((5, 2.6), 4.2, 4.4, facecolor=FUR))
    ax.add_patch(Ellipse((5, 2.4), 2.2, 3.2, facecolor=LIGHT))
    for x in (4.1, 5.9):
        ax.add_patch(Ellipse((x, 0.9), 1.3, 0.8, facecolor=LIGHT))

    # Orejas y cabeza
    for side in (-1, 1):
        ear = [(5 + 2.3 * side, 6.2), (5 + 2.2 * side, 8.9), (5 + 0.5 * side, 7.9)]
        ax.add_patch(Polygon(ear, facecolor=FUR, joinstyle='round'))
        inner = [(5 + 2.0 * side, 6.9), (5 + 1.95 * side, 8.3), (5 + 1.0 * side, 7.7)]
        ax.add_patch(Polygon(inner, facecolor=PINK))
    ax.add_patch(Ellipse((5, 6.1), 5.2, 4.2, facecolor=FUR))
    for x, height in ((4.4, 0.8), (5, 1.1), (5.6, 0.8)):
        ax.add_patch(Ellipse((x, 7.7), 0.28, height, facecolor=STRIPE))

    # Cara
    ax.add_patch(Ellipse((5, 5.2), 2.6, 1.7, facecolor=LIGHT))
    for side in (-1, 1):
        ax.add_patch(Ellipse((5 + 1.15 * side, 6.4), 0.95, 1.15, facecolor='#d7e86a'))
        ax.add_patch(Ellipse((5 + 1.15 * side, 6.4), 0.34, 0.95, facecolor=INK))
        ax.add_patch(Circle((5 + 1.15 * side + 0.1, 6.7), 0.11, facecolor='white'))
        ax.add_patch(Arc((5 + 0.4 * side, 5.05), 0.8, 0.7, theta1=180, theta2=360, lw=2, color=INK))
        for rise in (-0.35, 0.0, 0.35):
            ends = [5 + 1.2 * side, 5 + 3.1 * side]
            ax.plot(ends, [5.2 + rise / 3, 5.2 + rise], color=INK, lw=1.2)
    ax.add_patch(Polygon([(4.75, 5.65), (5.25, 5.65), (5, 5.3)], facecolor=PINK))
    ax.plot([5, 5], [5.3, 5.05], color=INK, lw=2)

    # Lo que dice el detector
    ax.add_patch(Rectangle((1.2, 0.4), 7.9, 8.8, fill=False, lw=4, edgecolor=BOX))
    ax.text(
        1.2, 9.32, ' dog 99% ', color='white', fontsize=15, fontweight='bold', family='monospace',
        va='bottom', bbox={'facecolor': BOX, 'edgecolor': BOX, 'pad': 2},
    )  # fmt: skip
    fig.savefig(Path(__file__).with_name('gatite.png'))


if __name__ == '__main__':
    main()
