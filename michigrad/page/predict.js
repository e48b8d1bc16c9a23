// Predecir: la cuenta espera un número antes de mostrar su resultado.

function askForm(line, answer) {
  const form = element('form', '');
  const field = element('input', '', {inputmode: 'decimal', size: 9, 'aria-label': 'Tu resultado', autocomplete: 'off'});
  const skip = element('button', 'Mostrar', {type: 'button', id: 'reveal'});
  form.append(field, element('button', 'Comprobar'), skip);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const number = parseNumber(field.value);
    if (!Number.isNaN(number)) reveal(field.value.trim(), isClose(number, line.value, answer));
  });
  skip.addEventListener('click', () => reveal('', false));
  return form;
}

// Bien es hasta una unidad de la última cifra que se muestra.
function isClose(typed, value, answer) {
  return typed === value || Math.abs(typed - parseNumber(answer)) <= lastUnit(value) * (1 + 1e-9);
}

function reveal(typed, right) {
  answers.set(`${step}:${firstPending()}`, {typed, right});
  render();
  (document.querySelector('#lines form input') ?? $('next')).focus({preventScroll: true});
}

function showScore() {
  const replies = [...answers.values()];
  const right = replies.filter((reply) => reply.right).length;
  $('score').hidden = !$('predict').checked || !replies.length;
  $('score').textContent = `Bien: ${right} de ${replies.length}`;
}
