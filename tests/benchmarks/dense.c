/* Un paso de forward y backward de un perceptrón multicapa, con los bucles escritos a mano: la vara
   contra la que bench_tape.py mide la cuenta sola de Tape. Todo en double, una fila por ejemplo.

   Los parámetros van como en MLP.parameters(): por capa y por neurona, los pesos y después el sesgo. */

#include <math.h>
#include <string.h>

#define MAX_WIDTH 256

/* out = x·Wᵀ + b, y ReLU si nonlin */
static void layer_forward(const double *params, const double *x, double *out,
                          int rows, int nin, int nout, int nonlin)
{
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < nout; j++) {
            const double *w = params + j * (nin + 1);
            double act = w[nin];
            for (int k = 0; k < nin; k++)
                act += w[k] * x[r * nin + k];
            out[r * nout + j] = nonlin && act < 0 ? 0 : act;
        }
}

/* grads += dL/dparams; dx = dL/dx, salvo en la primera capa (dx == NULL) */
static void layer_backward(const double *params, double *grads, const double *x, const double *out,
                           double *dout, double *dx, int rows, int nin, int nout, int nonlin)
{
    if (dx)
        memset(dx, 0, sizeof(double) * rows * nin);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < nout; j++) {
            double g = dout[r * nout + j];
            if (nonlin && out[r * nout + j] <= 0)
                continue;
            double *dw = grads + j * (nin + 1);
            for (int k = 0; k < nin; k++)
                dw[k] += g * x[r * nin + k];
            dw[nin] += g;
            if (dx) {
                const double *w = params + j * (nin + 1);
                for (int k = 0; k < nin; k++)
                    dx[r * nin + k] += g * w[k];
            }
        }
}

/* loss = max(0, 1 - y·z) y dL/dz */
static void hinge(const double *z, const double *y, double *losses, double *dz, int rows)
{
    for (int r = 0; r < rows; r++) {
        double margin = 1 - y[r] * z[r];
        losses[r] = margin > 0 ? margin : 0;
        dz[r] = margin > 0 ? -y[r] / rows : 0;
    }
}

/* loss = -Σ y·log softmax(z) y dL/dz, con y en one-hot */
static void cross_entropy(const double *z, const double *y, double *losses, double *dz,
                          int rows, int classes)
{
    for (int r = 0; r < rows; r++) {
        double e[MAX_WIDTH], max = z[r * classes], total = 0, loss = 0;
        for (int c = 1; c < classes; c++)
            if (z[r * classes + c] > max)
                max = z[r * classes + c];
        for (int c = 0; c < classes; c++)
            total += e[c] = exp(z[r * classes + c] - max);
        for (int c = 0; c < classes; c++) {
            loss -= y[r * classes + c] * (z[r * classes + c] - max);
            dz[r * classes + c] = (e[c] / total - y[r * classes + c]) / rows;
        }
        losses[r] = loss + log(total);
    }
}

/* sizes: entradas, ancho de cada capa; work: lugar para todas las activaciones y sus gradientes */
void step(const double *params, double *grads, const double *x, const double *y, double *losses,
          double *work, const int *sizes, int layers, int rows)
{
    const double *acts[16] = {x}, *p[16];
    double *dacts[16] = {0};
    int nparams = 0;
    for (int i = 0; i < layers; i++) {
        int nin = sizes[i], nout = sizes[i + 1];
        double *out = work;
        p[i] = params + nparams;
        layer_forward(p[i], acts[i], out, rows, nin, nout, i + 1 < layers);
        acts[i + 1] = out;
        dacts[i + 1] = out + rows * nout;
        work += 2 * rows * nout;
        nparams += nout * (nin + 1);
    }
    if (sizes[layers] == 1)
        hinge(acts[layers], y, losses, dacts[layers], rows);
    else
        cross_entropy(acts[layers], y, losses, dacts[layers], rows, sizes[layers]);
    memset(grads, 0, sizeof(double) * nparams);
    for (int i = layers - 1; i >= 0; i--)
        layer_backward(p[i], grads + (p[i] - params), acts[i], acts[i + 1], dacts[i + 1], dacts[i],
                       rows, sizes[i], sizes[i + 1], i + 1 < layers);
}
