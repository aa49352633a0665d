/* Runs the network under node:

     node example.mjs                 the outputs for a fixed pattern, a number a line
     node example.mjs photo.ppm       the best classes of a picture (any picture becomes one with
                                      `magick photo.jpg photo.ppm` or `ffmpeg -i photo.jpg photo.ppm`)

   node decodes no pictures of its own; in a page every format that the browser knows will do. */
import { readFile } from "node:fs/promises";

import { load } from "./net.js";

/** Reads a binary PPM file, which starts with "P6 WIDTH HEIGHT 255". */
async function readPpm(path) {
  const file = await readFile(path);
  const head = /^P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+255\s/.exec(file.toString("latin1", 0, 1024));
  if (!head) throw new Error(`${path} is no binary PPM picture of 8 bits a colour`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  const rgb = file.subarray(head[0].length);
  if (rgb.length < 3 * width * height) throw new Error(`${path} is cut short`);
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  return { data, width, height };
}

/** The pattern that example.c takes where it is given no input; of float32 it goes on from tensor to tensor. */
function pattern(inputs) {
  const typed = inputs.some(({ dtype }) => dtype !== "float32");
  let i = 0;
  return inputs.map(({ dtype, size }) => {
    if (typed) i = 0;
    const each = { length: size };
    if (dtype === "uint8") return Uint8Array.from(each, () => ((i++ % 257) * 73) % 257);
    if (dtype === "bool") return Uint8Array.from(each, () => Number(i++ % 3 === 0));
    if (dtype === "int64") return BigInt64Array.from(each, () => BigInt(i++ % 10));
    const whole = { int8: Int8Array, int16: Int16Array, int32: Int32Array }[dtype];
    if (whole) return whole.from(each, () => i++ % 10);
    return Float32Array.from({ length: size }, () =>
      Math.fround(Math.fround(((i++ % 2001) * 1916) % 2001) / 1000) - 1);
  });
}

const network = await load();
const [path] = process.argv.slice(2);
if (path) {
  for (const { label, probability } of network.classify(await readPpm(path))) {
    console.log(`${(100 * probability).toFixed(1).padStart(5)} %  ${label}`);
  }
} else {
  for (const output of network.run(...pattern(network.inputs))) console.log(Array.from(output).join("\n"));
}
