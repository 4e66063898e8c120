"use strict";
/* The side: what one sees, in three sentences each, with the figures of this model. */

function startExplain() {
  const top = facts.dimensions[0];
  const values = {
    d: DIMENSIONS,
    ratio: (PIXELS / DIMENSIONS).toFixed(PIXELS / DIMENSIONS < 10 ? 1 : 0),
    parameters: facts.parameters.toLocaleString("en"),
    top: dimensionName(top.index),
    n: facts.measured,
  };
  if (facts.has_encoder) {
    Object.assign(values, {
      ssim: decimals(facts.ssim, 3),
      mse: decimals(facts.mse, 4),
      kl: decimals(facts.kl, 1),
      sigma: decimals(facts.sigma, 2),
      active: facts.active,
      topKl: decimals(top.kl, 2),
    });
  }
  /* The most special text that there is for this model. */
  const variant = (card) => {
    if (card === "encoder") return facts.random ? "encoder" : "encoder.fixed";
    if (card === "z") {
      if (!facts.has_encoder) return "z.generator";
      return facts.random ? "z" : "z.fixed";
    }
    if (card === "kl") return facts.transformed ? "kl.transformed" : "kl";
    if (!facts.has_encoder) return "decoder.generator";
    return facts.labels_choose === "decoder" ? "decoder.label" : "decoder";
  };
  for (const box of document.querySelectorAll("[data-card]")) {
    const { card } = box.dataset;
    const title = document.createElement("h3"), text = document.createElement("p");
    box.hidden = card === "kl" && !facts.random;
    box.append(title, text);
    inEachLanguage(() => {
      title.textContent = say("explain." + card + ".title");
      text.textContent = say("explain." + variant(card), values);
    });
  }
}
