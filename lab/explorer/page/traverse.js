"use strict";
/* One dimension from end to end, with the others as they are under the sliders. */

function startTraverse() {
  const STEPS = 11;
  const strip = document.getElementById("traverse-strip");
  const select = document.getElementById("traverse-dimension");
  for (const { index } of facts.dimensions) select.add(new Option(dimensionName(index), index));
  const chosen = () => facts.dimensions[select.selectedIndex];
  const value = (i) => chosen().low + (chosen().high - chosen().low) * i / (STEPS - 1);
  const code = (i) => {
    const z = Float32Array.from(state.z);
    z[chosen().index] = value(i);
    return z;
  };
  const gallery = makeGallery(strip, STEPS, (i) => setState({ z: code(i) }));
  const redraw = keepingUp(async () => {
    const codes = Array.from({ length: STEPS }, (_, i) => code(i));
    const images = await model.decode(codes, codes.map(() => state.label));
    const here = state.z[chosen().index];
    let nearest = 0;
    images.forEach((image, i) => {
      gallery.draw(i, image);
      gallery.name(i, `${dimensionName(chosen().index)} = ${short(value(i))}`);
      if (Math.abs(value(i) - here) < Math.abs(value(nearest) - here)) nearest = i;
    });
    gallery.mark(nearest);
  });
  // After the large image, which a slider moves: this strip may lag behind.
  followers.push(() => setTimeout(redraw));
  select.addEventListener("change", redraw);
  inEachLanguage(() => strip.setAttribute("aria-label", say("traverse.title")));
}
