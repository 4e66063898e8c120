"use strict";
/* A way from one code to another, decoded at each step. */

function startMorph(data, encode) {
  const STEPS = 9;
  const element = (id) => document.getElementById(id);
  const way = element("morph-way");
  const ends = { a: null, b: null }; // {z, label}
  const at = { a: 0, b: 0 }; // which of the images to pick from
  const byLabel = facts.labels_choose === "decoder";

  const strips = element("morph-strips");
  const rows = (byLabel ? ["a", "b"] : ["a"]).map((end) => {
    const name = document.createElement("p"), strip = document.createElement("div");
    name.className = "strip";
    name.hidden = !byLabel;
    strip.className = "gallery nine";
    strips.append(name, strip);
    const gallery = makeGallery(strip, STEPS, (i) => {
      way.value = i / (STEPS - 1);
      redraw();
    });
    return { end, name, strip, gallery };
  });

  const redraw = keepingUp(async () => {
    const share = way.valueAsNumber;
    element("morph-value").textContent = share.toFixed(2);
    const z = between(ends.a.z, ends.b.z, share);
    const [image] = await model.decode([z], [(share < 0.5 ? ends.a : ends.b).label]);
    draw(element("morph-picture"), image);
  });
  const redrawStrips = keepingUp(async () => {
    for (const { end, gallery } of rows) {
      const codes = Array.from({ length: STEPS }, (_, i) => between(ends.a.z, ends.b.z, i / (STEPS - 1)));
      const images = await model.decode(codes, codes.map(() => ends[end].label));
      images.forEach((image, i) => gallery.draw(i, image));
    }
  });
  const nameStrips = () => {
    for (const { end, name, strip, gallery } of rows) {
      const label = ends[end] ? ends[end].label : "";
      name.textContent = say("morph.strip", { label });
      strip.setAttribute("aria-label", byLabel ? name.textContent : say("morph.title"));
      for (let i = 0; i < STEPS; i++) gallery.name(i, say("morph.step", { share: (i / (STEPS - 1)).toFixed(2) }));
    }
  };
  const setEnd = async (end, { z, label, pixels }) => {
    ends[end] = { z: Float32Array.from(z), label };
    draw(element("morph-" + end), pixels || (await model.decode([z], [label]))[0]);
    if (!ends.a || !ends.b) return;
    nameStrips();
    redraw();
    redrawStrips();
  };
  const other = (end) => {
    if (!data.codes) {
      const label = Math.floor(10 * Math.random());
      return setEnd(end, { z: randomCode(), label });
    }
    const count = data.labels.length;
    return pick((at[end] + 1 + Math.floor((count - 1) * Math.random())) % count, end);
  };
  const pick = (i, end) => {
    at[end] = i;
    return setEnd(end, {
      z: row(data.codes, i, DIMENSIONS), label: data.labels[i], pixels: row(data.images, i, PIXELS),
    });
  };
  for (const end of ["a", "b"]) {
    element("morph-new-" + end).addEventListener("click", () => other(end));
    const fromPad = element("morph-pad-" + end);
    fromPad.hidden = !encode;
    fromPad.addEventListener("click", () => setEnd(end, encode.result()));
  }
  way.addEventListener("input", redraw);
  inEachLanguage(() => {
    nameStrips();
    element("morph-hint").textContent = say(byLabel ? "morph.hint.label" : "morph.hint");
  });

  let playing = false;
  element("morph-play").addEventListener("click", () => {
    if (playing) return;
    playing = true;
    const start = performance.now(), first = way.valueAsNumber < 0.5 ? 0 : 1;
    const frame = (now) => {
      const share = Math.min(1, (now - start) / 2500);
      way.value = first === 0 ? share : 1 - share;
      redraw();
      if (share < 1) requestAnimationFrame(frame);
      else playing = false;
    };
    requestAnimationFrame(frame);
  });

  return async () => {
    for (const [end, digit] of [["a", 3], ["b", 8]]) {
      const first = data.labels.indexOf(digit);
      await (data.codes && first >= 0 ? pick(first, end) : other(end));
    }
  };
}
