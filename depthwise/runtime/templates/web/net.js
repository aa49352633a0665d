/* Runs net.wasm in a page or under node: an ES module that needs nothing else.

     import { load } from "./net.js";
     const network = await load();                  // net.wasm, net.weights, manifest.json beside it
     const image = context.getImageData(0, 0, w, h) // or { data, width, height }, RGBA bytes
     network.classify(image)                        // [{ label, probability }, ...], the best first
     network.run(tensor)                            // [Float32Array, ...], one for each output

   A tensor is a flat typed array in the order and of the type that net.h gives: int64 is BigInt64Array, bool Uint8Array
   of 0 and 1. */

const PAGE = 65536; // bytes: WebAssembly memory grows in these
const ALIGNMENT = 64; // bytes: where weights and arena must start

const TYPES = {
  float32: Float32Array, uint8: Uint8Array, bool: Uint8Array, // 0 or 1
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
};

/** Opens the library whose files lie in the folder `base`, a URL. */
export async function load(base = new URL(".", import.meta.url)) {
  const [code, weights, manifest] = await Promise.all(
    ["net.wasm", "net.weights", "manifest.json"].map((name) => read(new URL(name, base))),
  );
  const { instance } = await WebAssembly.instantiate(code);
  return new Network(instance, weights, JSON.parse(new TextDecoder().decode(manifest)));
}

async function read(url) {
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A network in WebAssembly memory: weights, tensors and arena lie there once, after the code's own data. */
export class Network {
  constructor(instance, weights, manifest) {
    this.manifest = manifest;
    this.exports = instance.exports;
    this.top = instance.exports.__heap_base.value;
    if (this.exports.net_weights_bytes() !== weights.length) {
      throw new Error(
        `net.weights has ${weights.length} bytes, net.wasm takes ${this.exports.net_weights_bytes()}: ` +
          "they belong to different libraries",
      );
    }
    const { inputs, outputs } = manifest.network;
    const place = (tensor) => ({ ...tensor, size: count(tensor), at: this.allocate(bytes(tensor)) });
    this.weights = this.allocate(weights.length);
    this.inputs = inputs.map(place);
    this.outputs = outputs.map(place);
    this.lists = [this.inputs, this.outputs].map((list) => this.allocate(4 * list.length));
    this.arena = this.allocate(this.exports.net_arena_bytes());
    const missing = this.top - this.exports.memory.buffer.byteLength;
    if (missing > 0) this.exports.memory.grow(Math.ceil(missing / PAGE));
    new Uint8Array(this.exports.memory.buffer).set(weights, this.weights);
  }

  allocate(size) {
    const start = Math.ceil(this.top / ALIGNMENT) * ALIGNMENT;
    this.top = start + size;
    return start;
  }

  view(tensor) {
    return new TYPES[tensor.dtype](this.exports.memory.buffer, tensor.at, tensor.size);
  }

  /** What net_run takes: the address of one tensor, or of a list of several's addresses. */
  pointer(tensors, list) {
    if (tensors.length === 1) return tensors[0].at;
    new Uint32Array(this.exports.memory.buffer, list).set(tensors.map((tensor) => tensor.at));
    return list;
  }

  /** Returns copies of the outputs, as the manifest lists them. */
  run(...tensors) {
    if (tensors.length !== this.inputs.length) {
      throw new Error(`the network takes ${this.inputs.length} inputs, found ${tensors.length}`);
    }
    this.inputs.forEach((input, i) => {
      const type = TYPES[input.dtype];
      if (!(tensors[i] instanceof type) || tensors[i].length !== input.size) {
        const found = `${tensors[i]?.constructor?.name} of ${tensors[i]?.length}`;
        throw new Error(
          `input ${input.name} is ${found}: the network takes ${type.name} of ${input.size}, ` +
            input.shape.join(" x "),
        );
      }
      this.view(input).set(tensors[i]);
    });
    const given = this.pointer(this.inputs, this.lists[0]);
    const taken = this.pointer(this.outputs, this.lists[1]);
    const status = this.exports.net_run(this.weights, given, taken, this.arena);
    if (status !== 0) throw new Error(`net_run returned ${status}`);
    return this.outputs.map((output) => this.view(output).slice());
  }

  /** How an image becomes the input: as the weights record it, else scaled to the input's size. */
  get preprocessing() {
    const { preprocessing } = this.manifest.network;
    const [height, width] = this.imageAxes().map((axis) => this.inputs[0].shape[axis]);
    const side = Math.min(height, width);
    const plain = { resize: side, crop: side, interpolation: "bilinear", mean: [0, 0, 0], std: [1, 1, 1] };
    return preprocessing ?? plain;
  }

  /** The positions of height, width and channels in the first input's shape. */
  imageAxes() {
    return this.manifest.network.preparation?.layout === "nhwc" ? [1, 2, 3] : [2, 3, 1];
  }

  /** Returns the input tensor of an image { data, width, height } of RGBA bytes. */
  prepare(image, preprocessing = this.preprocessing) {
    const { resize, crop, interpolation, mean, std } = preprocessing;
    const input = this.inputs[0];
    const [height, width, channels] = this.imageAxes().map((axis) => input.shape[axis]);
    if (input.size !== 3 * crop * crop || height !== crop || width !== crop || channels !== 3) {
      throw new Error(
        `${crop} x ${crop} pixels of 3 colours do not fit the input ${input.shape.join(" x ")}`,
      );
    }
    const pixels = resizeAndCrop(image, resize, crop, FILTERS[interpolation]);
    const planes = this.manifest.network.preparation?.layout !== "nhwc";
    const tensor = new TYPES[input.dtype](input.size);
    for (let i = 0; i < crop * crop; i++) {
      for (let c = 0; c < 3; c++) {
        const value = pixels[3 * i + c];
        tensor[planes ? c * crop * crop + i : 3 * i + c] =
          input.dtype === "uint8" ? value : (value / 255 - mean[c]) / std[c];
      }
    }
    return tensor;
  }

  /** Returns the `most` best classes of an image, by the softmax of the first output. */
  classify(image, most = 5) {
    const [scores] = this.run(this.prepare(image));
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = Array.from(scores, (score) => Math.exp(score - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    const { labels } = this.manifest.network;
    return powers
      .map((power, i) => ({ label: labels[i] ?? `class ${i}`, probability: power / sum }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, most);
  }
}

function count(tensor) {
  return tensor.shape.reduce((a, b) => a * b, 1);
}

function bytes(tensor) {
  return count(tensor) * TYPES[tensor.dtype].BYTES_PER_ELEMENT;
}

/* Weights by distance, 0 from `reach` on; stretched by the scale, so that shrinking averages. */
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => 1 - x },
  bicubic: {
    reach: 2,
    weight: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2),
  },
};

/** Scales the shorter side to `side` pixels, cuts `crop` x `crop` from the middle: RGB of 0 to 255. */
function resizeAndCrop({ data, width, height }, side, crop, filter) {
  const shorter = Math.min(width, height);
  const [w, h] = [width, height].map((size) => Math.max(crop, Math.trunc((size * side) / shorter)));
  const columns = taps(width, w, half(w - crop), crop, filter);
  const rows = taps(height, h, half(h - crop), crop, filter);
  const first = rows[0].start;
  const last = rows[crop - 1].start + rows[crop - 1].weights.length;
  const lines = new Float32Array((last - first) * crop * 3);
  for (let y = first; y < last; y++) {
    columns.forEach(({ start, weights }, x) => {
      const sums = [0, 0, 0];
      weights.forEach((weight, i) => {
        const at = 4 * (y * width + start + i);
        const alpha = data[at + 3] / 255; // transparency lies over white
        for (let c = 0; c < 3; c++) sums[c] += weight * (255 + (data[at + c] - 255) * alpha);
      });
      lines.set(sums.map(byte), 3 * ((y - first) * crop + x));
    });
  }
  const result = new Float32Array(crop * crop * 3);
  rows.forEach(({ start, weights }, y) => {
    for (let x = 0; x < 3 * crop; x++) {
      let sum = 0;
      weights.forEach((weight, i) => (sum += weight * lines[(start + i - first) * 3 * crop + x]));
      result[3 * crop * y + x] = byte(sum);
    }
  });
  return result;
}

/** Half of a whole number; what lies between two numbers goes to the even one, as Python rounds. */
function half(value) {
  return value % 4 === 1 ? (value - 1) / 2 : Math.round(value / 2);
}

function byte(value) {
  return Math.min(255, Math.max(0, Math.round(value)));
}

/** Which of `from` pixels each of `length` out of `to` is made of, from `offset` on, and with which weights. */
function taps(from, to, offset, length, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length }, (_, i) => {
    const centre = (offset + i + 0.5) * scale;
    const start = Math.max(0, Math.round(centre - filter.reach * stretch));
    const stop = Math.min(from, Math.round(centre + filter.reach * stretch));
    const raw = Array.from({ length: stop - start }, (_, j) => {
      const distance = Math.abs((start + j + 0.5 - centre) / stretch);
      return distance < filter.reach ? filter.weight(distance) : 0;
    });
    const sum = raw.reduce((a, b) => a + b, 0);
    return { start, weights: raw.map((weight) => weight / sum) };
  });
}
