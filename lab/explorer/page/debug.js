"use strict";
/* Times and differences from PyTorch; a corner of the page shows them with ?debug. */

const measured = {
  loadMs: null, // from opening to the first image
  sliderMs: [], // from each move of a slider to its image
  differences: {}, // largest difference from what torch computed, by name
  errors: [],
};
const CHECK_EACH = 20; // of the images to pick from
const debugging = new URLSearchParams(location.search).has("debug");

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : NaN;
}

function showDebug() {
  if (!debugging) return;
  const corner = document.getElementById("debug");
  corner.hidden = false;
  const times = measured.sliderMs;
  const lines = [`first image after ${Math.round(measured.loadMs)} ms`];
  if (times.length) {
    lines.push(`slider: last ${times.at(-1).toFixed(1)} ms, median ${median(times).toFixed(1)} ms, `
      + `worst ${Math.max(...times).toFixed(1)} ms (n = ${times.length})`);
  }
  for (const [name, value] of Object.entries(measured.differences)) {
    lines.push(`${name}: at most ${value.toExponential(1)} from PyTorch`);
  }
  for (const name of ["encoder", "decoder"]) {
    if (facts[name]) lines.push(`${name}: ${facts[name].precision || "not exported"}`);
  }
  corner.textContent = lines.concat(measured.errors).join("\n");
}

function largestDifference(ours, theirs) {
  let largest = 0;
  for (let i = 0; i < theirs.length; i++) largest = Math.max(largest, Math.abs(ours[i] - theirs[i]));
  return largest;
}

/* Compare what the browser computes with what torch computed for the same codes and images. */
async function compareWithTorch(data) {
  if (!model.runtime) return; // every image is PyTorch's
  const count = data.checkLabels.length;
  const note = (name, ours, theirs) => {
    const difference = largestDifference(ours, theirs);
    measured.differences[name] = Math.max(measured.differences[name] || 0, difference);
  };
  for (let i = 0; model.decoder && i < count; i++) {
    const z = row(data.checkZ, i, DIMENSIONS);
    const [image] = await model.decode([z], [data.checkLabels[i]]);
    note("images", image, row(data.checkImages, i, PIXELS));
    await pause();
  }
  for (let i = 0; model.encoder && i < data.labels.length; i += CHECK_EACH) {
    const pixels = row(data.images, i, PIXELS);
    const { mu, logVar, z } = await model.encode(pixels, data.labels[i], new Float32Array(DIMENSIONS));
    note("mu", mu, row(data.mu, i, DIMENSIONS));
    note("log_var", logVar, row(data.logVar, i, DIMENSIONS));
    if (model.decoder) {
      const [image] = await model.decode([z], [data.labels[i]]);
      note("reconstructions", image, row(data.checkRecon, i / CHECK_EACH, PIXELS));
    }
    await pause();
  }
  showDebug();
  const precisions = new Set(["encoder", "decoder"].map((half) => facts[half]?.precision));
  const both = precisions.has("fp16") && precisions.has("fp32");
  const weights = both ? "mixed" : precisions.has("fp16") ? "fp16" : "fp32";
  const largest = Math.max(...Object.values(measured.differences));
  const difference = (Math.ceil(1e4 * largest) / 1e4).toFixed(4); // rounded up
  inEachLanguage(() => {
    const sentences = [say("weights." + weights), say("agreement", { n: count, difference })];
    document.getElementById("agreement").textContent = sentences.join(language === "zh" ? "" : " ");
  });
}
