"use strict";
/* The chart of q(z|x): mu with the sample z, and sigma, one bar per dimension. */

const BARS = 32; // dimensions in the chart, at most
const HIGHEST = 1.25; // sigma that fits; the prior's is 1

/* Fill a container with the chart, in its width; return a function that shows {mu, logVar, z}. */
function makePosteriorChart(container) {
  let show = drawPosterior(container), width = container.clientWidth, last = null;
  addEventListener("resize", () => {
    if (container.clientWidth === width) return;
    width = container.clientWidth;
    show = drawPosterior(container);
    if (last) show(last);
  });
  return (posterior) => {
    last = posterior;
    show(posterior);
  };
}

function drawPosterior(container) {
  const WIDTH = Math.min(736, container.clientWidth), LEFT = 40; // pixels
  const TOP = 150, GAP = 26, BOTTOM = 80;
  const shown = facts.dimensions.slice(0, BARS).map(({ index }) => index);
  const step = (WIDTH - LEFT) / shown.length;
  const wide = Math.min(26, 0.62 * step);
  const withSigma = facts.random;
  const height = TOP + (withSigma ? GAP + BOTTOM : 0) + 22;
  const REACH = Math.max(3, ...facts.dimensions.map(({ low, high }) => Math.max(-low, high)));
  const level = (value) => TOP / 2 - Math.max(-REACH, Math.min(REACH, value)) / REACH * TOP / 2;
  const floor = TOP + GAP + BOTTOM;
  const tall = (sigma) => Math.min(HIGHEST, sigma) / HIGHEST * BOTTOM;

  const make = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    svg.append(element);
    return element;
  };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.setAttribute("role", "img");
  container.replaceChildren(svg);

  make("rect", { class: "prior", x: LEFT, width: WIDTH - LEFT, y: level(1), height: level(-1) - level(1) });
  for (const value of [-REACH, 0, REACH]) {
    make("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: level(value), y2: level(value) });
  }
  make("text", { x: LEFT - 6, y: level(0) + 4, "text-anchor": "end" }, "μ");
  make("text", { x: LEFT - 6, y: 11, "text-anchor": "end" }, short(REACH));
  make("text", { x: LEFT - 6, y: TOP, "text-anchor": "end" }, short(-REACH));
  if (withSigma) {
    for (const value of [0, 1]) {
      const y = floor - tall(value);
      make("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y, y2: y });
      make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, String(value));
    }
    make("text", { x: LEFT - 6, y: floor - tall(0.5) + 4, "text-anchor": "end" }, "σ");
  }
  const bars = shown.map((index, i) => {
    const middle = LEFT + (i + 0.5) * step;
    if (i % Math.ceil(20 / step) === 0) {
      make("text", { x: middle, y: height - 6, "text-anchor": "middle" }, dimensionName(index));
    }
    const left = { x: middle - wide / 2, width: wide };
    return {
      index,
      mu: make("rect", { class: "mu", ...left, y: level(0), height: 0 }),
      sigma: withSigma ? make("rect", { class: "sigma", ...left, y: floor, height: 0 }) : null,
      z: make("circle", { class: "z", cx: middle, cy: level(0), r: Math.min(5, wide / 2 + 1) }),
    };
  });

  return ({ mu, logVar, z }) => {
    for (const bar of bars) {
      const value = mu[bar.index];
      bar.mu.setAttribute("y", Math.min(level(0), level(value)));
      bar.mu.setAttribute("height", Math.abs(level(value) - level(0)));
      bar.z.setAttribute("cy", level(z[bar.index]));
      if (!bar.sigma) continue;
      const size = tall(Math.exp(0.5 * logVar[bar.index]));
      bar.sigma.setAttribute("y", floor - size);
      bar.sigma.setAttribute("height", size);
    }
    const largest = shown.reduce((a, b) => (Math.abs(mu[b]) > Math.abs(mu[a]) ? b : a));
    svg.setAttribute("aria-label", say("posterior.label", {
      n: shown.length, name: dimensionName(largest), mu: short(mu[largest]),
    }));
  };
}
