// Messages of Python: length of the header, the header as JSON, then the arrays.

const TYPES = {
  float32: Float32Array, uint32: Uint32Array, uint16: Uint16Array, int16: Int16Array,
  int8: Int8Array, uint8: Uint8Array,
};

export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  header.arrays = header.buffers.map(
    (b) => new TYPES[b.type](buffer, 4 + length + b.offset, b.length),
  );
  return header;
}
