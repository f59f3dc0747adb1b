// Messages of arrays; the format is that of packed_frames.py.

const TYPES = { float32: Float32Array, int32: Int32Array };

/** The header of a frame, with its arrays under `arrays` as {name: {values, shape}}. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const { name, type, shape, offset } of header.arrays) {
    const count = shape.reduce((product, size) => product * size, 1);
    arrays[name] = { values: new TYPES[type](buffer, 4 + length + offset, count), shape };
  }
  return { ...header, arrays };
}
