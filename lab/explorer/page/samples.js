"use strict";
/* A grid of fresh samples: one column per label, or one grid for a model without labels. */

const SAMPLE_ROWS = 5;

function startSamples() {
  const byLabel = facts.labels_choose === "decoder";
  const grid = document.getElementById("samples-grid");
  const count = 10 * SAMPLE_ROWS;
  const labels = Array.from({ length: count }, (_, i) => (byLabel ? i % 10 : 0));
  let noise = [];
  if (byLabel) {
    for (let label = 0; label < 10; label++) {
      const head = document.createElement("span");
      head.className = "head";
      head.textContent = label;
      grid.append(head);
    }
  }
  const code = (i) => noise[i].map((value) => state.temperature * value);
  const gallery = makeGallery(grid, count, (i) => {
    setState(byLabel ? { z: code(i), label: labels[i] } : { z: code(i) });
    document.getElementById("generate").scrollIntoView({ block: "nearest" });
  });
  inEachLanguage(() => {
    grid.setAttribute("aria-label", say("samples.title"));
    for (let i = 0; i < count; i++) gallery.name(i, say("samples.one", { n: i + 1 }));
    document.getElementById("samples-hint").textContent = say(
      byLabel ? "samples.hint.label" : "samples.hint.none");
  });
  const redraw = keepingUp(async () => {
    const images = await model.decode(labels.map((_, i) => code(i)), labels);
    images.forEach((image, i) => gallery.draw(i, image));
  });
  const fresh = () => {
    noise = labels.map(() => randomCode());
    return redraw();
  };
  document.getElementById("fresh").addEventListener("click", fresh);
  document.getElementById("temperature").addEventListener("input", redraw);
  return fresh;
}
