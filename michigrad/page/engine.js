// El motor: las cuentas de michigrad/engine.py, para que la página siga a un número que se cambia.
// Un grafo es una lista de nodos en orden topológico; en ella, un nodo es su posición.

// JSON no tiene infinitos ni NaN: llegan como texto.
function readGraph({rankdir, rows, nodes: list}) {
  const number = (x) => (x === null ? null : Number(x));
  return {rankdir, rows, nodes: list.map((node) => ({
    ...node,
    data: Number(node.data),
    grad: Number(node.grad),
    slopes: node.slopes.map(number),
    measured: node.measured && {
      grad: Number(node.measured.grad),
      gains: node.measured.gains.map(([to, gain, slope, overwrites]) => (
        {to, gain: Number(gain), slope: Number(slope), overwrites})),
    },
  }))};
}

// Cada operación: su valor y sus derivadas locales (null: por ahí no pasa gradiente). Las parciales
// no siempre tienen resultado; `divisor` es el operando que divide en la primera derivada.
const RULES = {
  '+': {value: (x, y) => x + y, slopes: () => [1, 1]},
  '-': {value: (x, y) => x - y, slopes: () => [1, -1]},
  '*': {value: (x, y) => x * y, slopes: (out, x, y) => [y, x]},
  '/': {value: (x, y) => x / y, slopes: (out, x, y) => [1 / y, -out / y], partial: true, divisor: 1},
  '**n': {
    value: (x, n) => x ** n,
    slopes: (out, x, n) => [n === 0.5 ? 0.5 / Math.sqrt(x) : powerSlope(x, n)],
    partial: true,
  },
  '**': {
    value: (x, y) => x ** y,
    slopes: (out, x, y) => [powerSlope(x, y), exponentSlope(x, y, out)],
    partial: true,
  },
  neg: {value: (x) => -x, slopes: () => [-1]},
  abs: {value: Math.abs, slopes: (out, x) => [Math.sign(x)]},
  exp: {value: Math.exp, slopes: (out) => [out], partial: true},
  log: {value: Math.log, slopes: (out, x) => [1 / x], partial: true, divisor: 0},
  sqrt: {value: Math.sqrt, slopes: (out) => [0.5 / out], partial: true},
  sin: {value: Math.sin, slopes: (out, x) => [Math.cos(x)], partial: true},
  cos: {value: Math.cos, slopes: (out, x) => [-Math.sin(x)], partial: true},
  tanh: {value: Math.tanh, slopes: (out) => [1 - out * out]},
  sigmoid: {value: sigmoid, slopes: (out) => [out * (1 - out)]},
  softplus: {
    value: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    slopes: (out, x) => [sigmoid(x)],
  },
  ReLU: {value: (x) => (x <= 0 ? 0 : x), slopes: (out, x) => [x <= 0 ? null : 1]},
  max: {value: Math.max, slopes: (out, x, y) => share(x - y)},
  min: {value: Math.min, slopes: (out, x, y) => share(y - x)},
  clamp_min: {value: Math.max, slopes: (out, x, y) => (x >= y ? [1, null] : [null, 1])},
  clamp_max: {value: Math.min, slopes: (out, x, y) => (x <= y ? [1, null] : [null, 1])},
};

function sigmoid(x) {
  const e = Math.exp(-Math.abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

// El gradiente es del que gana; en un empate, mitad y mitad.
function share(lead) {
  if (lead === 0) return [0.5, 0.5];
  return lead > 0 ? [1, null] : [null, 1];
}

function powerSlope(x, n) {
  return n === 0 ? null : n * x ** (n - 1);
}

function exponentSlope(x, n, out) {
  if (x > 0) return out * Math.log(x);
  if (x < 0 || Number.isNaN(n)) return NaN;
  return n >= 0 ? 0 : -Infinity;
}

function isLeaf(node) {
  return node.operands.length === 0;
}

// Una operación sin resultado: el motor daría un error.
class NoResult extends Error {
  constructor(node) {
    super('sin resultado');
    this.node = node;
  }
}

function apply(node, position, operands) {
  const inputs = node.exponent === null ? operands : [...operands, node.exponent];
  const rule = RULES[node.rule];
  const out = rule.value(...inputs);
  if (rule.partial && inputs.every(Number.isFinite) && !Number.isFinite(out)) {
    throw new NoResult(position);
  }
  return {out, slopes: rule.slopes(out, ...inputs)};
}

// Los datos y las derivadas locales de cada nodo si las hojas valen `leaves`. Lo que no depende de
// una hoja cambiada queda como lo calculó Python. Lanza NoResult si una operación no tiene.
function forward(nodes, leaves) {
  const data = [];
  const slopes = [];
  const changed = [];
  nodes.forEach((node, i) => {
    data[i] = isLeaf(node) ? leaves[i] : node.data;
    slopes[i] = node.slopes;
    changed[i] = isLeaf(node) ? !Object.is(data[i], node.data) : node.operands.some((j) => changed[j]);
    if (isLeaf(node) || !changed[i]) return;
    const {out, slopes: local} = apply(node, i, node.operands.map((j) => data[j]));
    data[i] = out;
    slopes[i] = local;
  });
  return {data, slopes};
}

// Los gradientes que deja backward() y, de cada nodo, lo que reparte: `flows`. Las hojas empiezan
// con `start`; los otros, en 0.
function backward(nodes, {data, slopes}, start) {
  const grads = nodes.map((node, i) => (isLeaf(node) ? start[i] : 0));
  const flows = nodes.map(() => []);
  const root = nodes.length - 1;
  const arrivals = nodes.map((node, i) => (isLeaf(node) && start[i] ? [start[i]] : []));
  grads[root] += 1;
  arrivals[root].push(1);
  for (let i = root; i >= 0; i -= 1) {
    for (const {to, slot, slope, gain, overwrites} of gains(nodes[i], grads[i], slopes[i], data)) {
      const before = grads[to];
      grads[to] = overwrites ? gain : before + gain;
      arrivals[to].push(gain);
      flows[i].push({
        from: i, to, slot, slope, gain, overwrites, before, after: grads[to],
        received: [...arrivals[to]], grad: grads[i],
      });
    }
  }
  markLast(flows);
  return {grads, flows};
}

// Lo que un nodo le suma a cada operando. De una operación propia se sabe lo que midió Python.
function gains(node, grad, slopes, data) {
  if (node.measured) {
    return node.measured.gains.map(({to, gain, slope, overwrites}) => ({
      to, slope, overwrites, slot: node.operands.indexOf(to),
      gain: grad === node.measured.grad ? gain : slope * grad,
    }));
  }
  return node.operands.map((to, slot) => (
    {to, slot, slope: slopes[slot], overwrites: false, gain: gain(node, slot, grad, slopes[slot], data)}));
}

function gain(node, slot, grad, slope, data) {
  if (slope === null) return 0;
  const {divisor} = RULES[node.rule];
  // Donde 1/b no entra en un número, grad/b puede entrar.
  if (slot === 0 && divisor !== undefined && Math.abs(slope) === Infinity) return grad / data[node.operands[divisor]];
  return slope * grad;
}

// El último gradiente que recibe cada nodo.
function markLast(flows) {
  const pending = new Set(flows.keys());
  for (const flow of flows.flatMap((list) => [...list].reverse())) {
    flow.last = pending.delete(flow.to);
  }
}

// Todos los números si las hojas valen `leaves` y sus gradientes empiezan en `start`; en `own`, los
// gradientes si empezaran en 0. Lanza NoResult.
function calculate(nodes, leaves, start, stale) {
  const numbers = forward(nodes, leaves);
  const own = backward(nodes, numbers, nodes.map(() => 0)).grads;
  return {
    ...numbers, ...backward(nodes, numbers, start), own, seed: 1 + start.at(-1),
    stale: stale.map((old, i) => old && numbers.data[i] === nodes[i].data),
  };
}

// Las hojas que no se pueden cambiar, con la operación propia que depende de cada una.
function lockedLeaves(nodes) {
  const owner = nodes.map((node) => (node.measured ? node : null));
  for (let i = nodes.length - 1; i >= 0; i -= 1) {
    for (const j of nodes[i].operands) if (owner[i]) owner[j] ??= owner[i];
  }
  return owner.map((node, i) => (isLeaf(nodes[i]) ? node : null));
}

// Los nodos cuyo dato ya no es el de sus operandos: alguien cambió un dato después de calcular.
function staleNodes(nodes) {
  return nodes.map((node, i) => {
    if (!node.rule) return false;
    try {
      const {out} = apply(node, i, node.operands.map((j) => nodes[j].data));
      return Math.abs(out - node.data) > 1e-9 * Math.max(Math.abs(out), Math.abs(node.data));
    } catch {
      return true;
    }
  });
}

// Un paso de descenso por el gradiente: los parámetros, contra su gradiente.
function descend(nodes, leaves, grads, eta) {
  return leaves.map((x, i) => (nodes[i].trainable ? x - eta * grads[i] : x));
}
