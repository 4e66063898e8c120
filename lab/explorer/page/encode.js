"use strict";
/* Draw or pick a digit, and watch the code, the reconstruction and its scores. */

function startEncode(data) {
  const element = (id) => document.getElementById(id);
  if (!facts.has_encoder) return null;
  element("encode-row").hidden = false;
  const canDraw = model.encoder !== null;
  const usesLabel = facts.encoder_sees_label || facts.labels_choose === "decoder";
  const noise = element("noise");
  let label = 0; // of the image on the pad
  let picked = null; // which of the images, or null after a stroke
  let sample = randomCode();
  let result = null; // of the last encoding

  const recon = element("recon");
  const showPosterior = makePosteriorChart(element("posterior"));
  const markLabel = makeLabelButtons(element("pad-labels"), (next) => {
    label = next;
    redraw();
  });
  element("pad-labels").hidden = !(usesLabel && canDraw);
  element("noise-row").hidden = !(facts.random && canDraw);

  const encoded = async () => {
    if (canDraw) {
      const scaled = sample.map((value) => noise.valueAsNumber * value);
      return model.encode(pad.pixels(), label, scaled);
    }
    return {
      mu: row(data.mu, picked, DIMENSIONS),
      logVar: row(data.logVar, picked, DIMENSIONS),
      z: row(data.codes, picked, DIMENSIONS),
    };
  };
  const redraw = keepingUp(async () => {
    const input = toBytes(pad.pixels());
    const posterior = await encoded();
    const [image] = await model.decode([posterior.z], [label]);
    draw(recon, image);
    result = { ...posterior, label, pixels: pad.pixels(), image };
    showPosterior(posterior);
    markLabel(label);
    const output = toBytes(image);
    element("ssim").textContent = decimals(structuralSimilarity(input, output), 3);
    element("mse").textContent = decimals(meanSquaredError(input, output), 4);
    let kl = 0;
    posterior.mu.forEach((mu, k) => {
      kl += 0.5 * (mu * mu + Math.exp(posterior.logVar[k]) - 1 - posterior.logVar[k]);
    });
    element("kl").textContent = short(kl);
  });
  element("kl-box").hidden = !facts.random;

  const pad = makePad(element("pad"), () => {
    gallery.mark(picked);
    redraw();
  });
  const drawn = () => {
    picked = null;
    gallery.mark(null);
  };
  const gallery = makeGallery(element("images"), data.labels.length, (i) => pick(i));
  const pick = (i) => {
    picked = i;
    label = data.labels[i];
    pad.set(row(data.images, i, PIXELS));
  };
  for (let i = 0; i < data.labels.length; i++) gallery.draw(i, row(data.images, i, PIXELS));
  inEachLanguage(() => {
    element("images").setAttribute("aria-label", say("pick.title"));
    data.labels.forEach((digit, i) => gallery.name(i, say("pick.one", { digit, n: i + 1 })));
    element("encode-hint").textContent = sayAll(
      canDraw ? "encode.hint" : "encode.hint.fixed",
      ...(usesLabel && canDraw ? ["encode.hint.label"] : []));
    element("posterior-hint").textContent = sayAll(
      facts.random ? "posterior.hint" : "posterior.hint.fixed",
      ...(facts.transformed ? ["posterior.transformed"] : []));
  });
  for (const name of ["pointerdown", "keydown"]) element("pad").addEventListener(name, drawn, true);
  if (!canDraw) {
    element("pad").style.pointerEvents = "none";
    element("pad").removeAttribute("tabindex");
    element("pad").setAttribute("role", "img");
    for (const id of ["clear", "centre"]) element(id).hidden = true;
    document.querySelector("[data-text='encode.keys']").hidden = true;
  }

  element("clear").addEventListener("click", () => {
    drawn();
    pad.set(new Float32Array(PIXELS));
  });
  element("centre").addEventListener("click", () => {
    drawn();
    pad.centre();
  });
  element("take").addEventListener("click", () => {
    setState({ z: Float32Array.from(result.z), label: result.label });
    element("generate").scrollIntoView({ block: "nearest" });
  });
  const showNoise = () => { element("noise-value").textContent = noise.valueAsNumber.toFixed(2); };
  noise.addEventListener("input", () => {
    showNoise();
    redraw();
  });
  showNoise();
  element("redraw").addEventListener("click", () => {
    sample = randomCode();
    if (noise.valueAsNumber === 0) noise.value = 1;
    showNoise();
    redraw();
  });
  return { pick, result: () => result };
}
