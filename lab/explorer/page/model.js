"use strict";
/* The student's model: two ONNX networks in onnxruntime-web, or images in place of the decoder. */

const DIMENSIONS = facts.latent_dim;
const AT_ONCE = 10; // images per run, so that a slider never waits long for a grid

const model = {
  encoder: null, // an InferenceSession, or null
  decoder: null,
  atlas: null, // {z, labels, images, samples}, if the decoder did not export

  async load() {
    let runtime = null;
    if (carries("encoder") || carries("decoder")) runtime = await startRuntime();
    if (carries("decoder")) this.decoder = await makeSession(runtime, "decoder");
    else {
      this.atlas = {
        z: await unpackFloats("atlas_z"),
        labels: await unpack("atlas_labels"),
        images: await unpack("atlas_images"),
        samples: await unpackFloats("atlas_samples"),
      };
    }
    this.runtime = runtime;
  },

  async loadEncoder() {
    if (carries("encoder")) this.encoder = await makeSession(this.runtime, "encoder");
  },

  /* Decode codes, one Float32Array each, with one label each; return arrays of 784 pixels. */
  async decode(codes, labels) {
    if (this.atlas) return codes.map((z, i) => nearestImage(this.atlas, z, labels[i]));
    const images = [];
    const atOnce = facts.decoder.batch || AT_ONCE;
    for (let first = 0; first < codes.length; first += atOnce) {
      const some = codes.slice(first, first + atOnce);
      const outputs = await inTurn(() => runSession(this.runtime, this.decoder, {
        z: [joined(some), [some.length, DIMENSIONS]],
        labels: labels.slice(first, first + atOnce),
      }));
      for (let i = 0; i < some.length; i++) images.push(row(outputs.images.data, i, PIXELS));
      if (codes.length > atOnce) await pause();
    }
    return images;
  },

  /* Encode an image of 784 pixels; return {mu, logVar, z}, with z = mu + sigma noise. */
  async encode(pixels, label, noise) {
    const outputs = await inTurn(() => runSession(this.runtime, this.encoder, {
      x: [pixels, [1, 1, SIZE, SIZE]],
      labels: [label],
      noise: [noise, [1, DIMENSIONS]],
    }));
    return { mu: outputs.mu.data, logVar: outputs.log_var.data, z: outputs.code.data };
  },
};

/* Load onnxruntime-web from the page itself. */
async function startRuntime() {
  const code = await unpack("ort.wasm.bundle.min.mjs");
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const runtime = await import(address);
  runtime.env.wasm.wasmBinary = await unpack("ort-wasm-simd-threaded.wasm");
  runtime.env.wasm.numThreads = 1; // more need a server that sets headers
  runtime.env.logLevel = "error";
  return runtime;
}

async function makeSession(runtime, name) {
  return runtime.InferenceSession.create(await unpack(name), { executionProviders: ["wasm"] });
}

/* Run a network. It may lack an input that it does not use, such as the labels. */
async function runSession(runtime, session, values) {
  const inputs = {};
  for (const name of session.inputNames) {
    if (name === "labels") {
      const labels = BigInt64Array.from(values.labels, BigInt);
      inputs.labels = new runtime.Tensor("int64", labels, [labels.length]);
    } else {
      inputs[name] = new runtime.Tensor("float32", ...values[name]);
    }
  }
  return session.run(inputs);
}

/* Return the image of the atlas whose code is nearest, of the same label if labels matter. */
function nearestImage(atlas, z, label) {
  const byLabel = facts.labels_choose === "decoder";
  let best = 0, least = Infinity;
  for (let i = 0; i < atlas.labels.length; i++) {
    if (byLabel && atlas.labels[i] !== label) continue;
    let distance = 0;
    for (let k = 0; k < DIMENSIONS && distance < least; k++) {
      distance += (atlas.z[i * DIMENSIONS + k] - z[k]) ** 2;
    }
    if (distance < least) [best, least] = [i, distance];
  }
  return Float32Array.from(row(atlas.images, best, PIXELS), (byte) => byte / 255);
}

function joined(codes) {
  const all = new Float32Array(codes.length * DIMENSIONS);
  codes.forEach((z, i) => all.set(z, i * DIMENSIONS));
  return all;
}

/* ---------------------------------------------------------------- one after another */

let lastRun = Promise.resolve();

/* Run a function when the runs before it are complete: a session takes one at a time. */
function inTurn(work) {
  const result = lastRun.then(work);
  lastRun = result.catch(() => undefined);
  return result;
}

/* Let the browser draw, and what a reader asked for run first. */
function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/* Return a function that asks for `work` and returns a promise of it. While `work` runs, further
   requests are merged into one. */
function keepingUp(work) {
  let asked = false, running = null;
  const run = async () => {
    try {
      while (asked) {
        asked = false;
        await work();
      }
    } finally {
      running = null;
    }
  };
  return () => {
    asked = true;
    running ??= run();
    return running;
  };
}
