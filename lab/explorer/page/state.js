"use strict";
/* The code z that all parts of the page share, its label, and the temperature. */

const state = { z: new Float32Array(DIMENSIONS), label: 0, temperature: 1 };
const followers = []; // functions that are called after each change of z or of the label

/* Change z and label; everything that shows them follows. */
function setState(change) {
  Object.assign(state, change);
  for (const follow of followers) follow();
}

/* Return a normally distributed number (Box and Muller 1958). */
function normal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}

/* Return a code from N(0, scale^2 I), or one of the atlas, which has images of some only. */
function randomCode(scale = 1) {
  if (model.atlas) {
    const { samples } = model.atlas;
    const count = samples.length / DIMENSIONS;
    return Float32Array.from(row(samples, Math.floor(count * Math.random()), DIMENSIONS));
  }
  return Float32Array.from({ length: DIMENSIONS }, () => scale * normal());
}

/* Return the code at a share of the way from one to another. */
function between(from, to, share) {
  return from.map((value, k) => (1 - share) * value + share * to[k]);
}

/* The name of a dimension, counted from 1, as in a formula. */
function dimensionName(index) {
  return "z" + String(index + 1).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
}
