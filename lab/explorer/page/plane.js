"use strict";
/* The latent plane of a model with latent_dim 2: images, codes, and the point under the pointer. */

// One color per label, as in the lab's pictures: the ten of matplotlib.
const LABEL_COLORS = [
  "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd",
  "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
];

function startPlane(data) {
  if (DIMENSIONS !== 2) return () => undefined;
  document.getElementById("plane").hidden = false;
  const TILES = 14;
  const map = document.getElementById("plane-map");
  const dots = document.getElementById("plane-dots");
  const context = map.getContext("2d");
  const reach = Math.max(...facts.dimensions.flatMap(({ low, high }) => [-low, high]));
  const tiles = document.createElement("canvas");
  tiles.width = tiles.height = TILES * SIZE;

  const toPlace = (z) => [
    (z[0] + reach) / (2 * reach) * map.width,
    (reach - z[1]) / (2 * reach) * map.height, // up is positive
  ];
  const paint = () => {
    context.imageSmoothingEnabled = true;
    context.globalAlpha = dots.checked ? 0.55 : 1;
    context.fillStyle = "#000";
    context.fillRect(0, 0, map.width, map.height);
    context.drawImage(tiles, 0, 0, map.width, map.height);
    context.globalAlpha = 1;
    for (let i = 0; dots.checked && data.codes && i < data.labels.length; i++) {
      const [x, y] = toPlace(row(data.codes, i, 2));
      const shown = facts.labels_choose !== "decoder" || data.labels[i] === state.label;
      context.globalAlpha = shown ? 1 : 0.25; // the images are those of one label
      context.fillStyle = LABEL_COLORS[data.labels[i]];
      context.strokeStyle = "#fff";
      context.beginPath();
      context.arc(x, y, 5.5, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
    context.globalAlpha = 1;
    const [x, y] = toPlace(state.z);
    for (const [width, style] of [[7, "#000"], [3, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.beginPath();
      context.arc(x, y, 14, 0, 2 * Math.PI);
      context.stroke();
    }
    context.lineWidth = 1;
    document.getElementById("plane-place").textContent =
      `${dimensionName(0)} = ${short(state.z[0])}, ${dimensionName(1)} = ${short(state.z[1])}`;
  };
  let tiled = null; // the label whose tiles are drawn
  const tile = keepingUp(async () => {
    const label = facts.labels_choose === "decoder" ? state.label : 0;
    if (tiled === label) return;
    tiled = label;
    const codes = [];
    for (let i = 0; i < TILES * TILES; i++) {
      const across = (i % TILES + 0.5) / TILES, down = (Math.floor(i / TILES) + 0.5) / TILES;
      codes.push(Float32Array.of((2 * across - 1) * reach, (1 - 2 * down) * reach));
    }
    const images = await model.decode(codes, codes.map(() => label));
    const one = document.createElement("canvas");
    one.width = one.height = SIZE;
    images.forEach((image, i) => {
      draw(one, image);
      tiles.getContext("2d").drawImage(one, i % TILES * SIZE, Math.floor(i / TILES) * SIZE);
    });
    paint();
  });

  const follow = (event) => {
    const box = map.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    const down = (event.clientY - box.top) / box.height;
    setState({ z: Float32Array.of((2 * across - 1) * reach, (1 - 2 * down) * reach) });
  };
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    follow(event);
  });
  map.addEventListener("pointermove", follow);
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const step = steps[event.key].map((way) => way * reach / (event.shiftKey ? 10 : 40));
    setState({ z: state.z.map((value, k) => Math.min(reach, Math.max(-reach, value + step[k]))) });
  });
  dots.addEventListener("change", paint);
  dots.parentElement.hidden = !data.codes;
  const legend = document.getElementById("plane-legend");
  legend.hidden = !data.codes;
  LABEL_COLORS.forEach((fill, label) => {
    const entry = document.createElement("span"), key = document.createElement("span");
    key.className = "key";
    key.style.background = fill;
    entry.append(key, String(label));
    legend.append(entry);
  });
  followers.push(() => {
    paint();
    tile();
  });
  return tile;
}
