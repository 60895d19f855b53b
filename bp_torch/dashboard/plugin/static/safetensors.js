// Reads a safetensors file, https://huggingface.co/docs/safetensors: the length of a JSON header as eight bytes, the
// header, and the arrays at the offsets that the header gives.

const KINDS = {F32: Float32Array, I32: Int32Array, U8: Uint8Array};

/** The arrays by name, each with its shape, and the metadata; an Error that says what is damaged. */
export function read(buffer) {
  const [header, start] = headerOf(buffer);
  const {__metadata__: metadata = {}, ...entries} = header;
  const arrays = {};
  for (const [name, entry] of Object.entries(entries)) arrays[name] = arrayOf(buffer, start, name, entry);
  return {arrays, metadata};
}

function headerOf(buffer) {
  if (buffer.byteLength < 8) throw new Error(`it is only ${buffer.byteLength} bytes long`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) throw new Error("it is cut short");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", {fatal: true}).decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw new Error("its header is not JSON");
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) throw new Error("it has no header");
  return [header, 8 + length];
}

function arrayOf(buffer, start, name, entry) {
  const {dtype, shape, data_offsets: offsets} = entry ?? {};
  const Kind = Object.hasOwn(KINDS, dtype) ? KINDS[dtype] : null;
  if (!Kind || ![shape, offsets].every((list) => Array.isArray(list) && list.every(isCount)) || offsets.length !== 2) {
    throw new Error(`its array ${name} is of an unknown kind`);
  }
  const [from, to] = offsets.map((offset) => start + offset);
  const size = shape.reduce((product, length) => product * length, 1) * Kind.BYTES_PER_ELEMENT;
  if (to > buffer.byteLength || to - from !== size) throw new Error(`its array ${name} is cut short`);
  return {shape, data: new Kind(buffer.slice(from, to))};
}

const isCount = (length) => Number.isSafeInteger(length) && length >= 0;
