"use strict";
/* Start the page: load, show the first image, then the rest. */

addEventListener("error", (event) => measured.errors.push(event.message));
addEventListener("unhandledrejection", (event) => measured.errors.push(String(event.reason)));

function writeHeader() {
  const { run } = facts;
  const parts = [run.name, `${facts.class_name}, latent_dim ${DIMENSIONS}`];
  if (run.var !== null && facts.has_encoder) parts.push(`var ${run.var}`);
  if (run.epoch !== null) parts.push(say("epoch", { n: run.epoch }));
  if (facts.has_encoder) {
    parts.push(`ssim ${decimals(facts.ssim, 3)}, mse ${decimals(facts.mse, 4)}`);
  }
  document.getElementById("run").textContent = parts.join(" · ");
}

/* What this page lacks, one sentence each. */
function writeNotices() {
  const missing = [];
  if (!facts.has_encoder) missing.push(say("notice.generator"));
  else if (!carries("encoder")) missing.push(say("notice.encoder"));
  if (!carries("decoder")) missing.push(say("notice.decoder"));
  document.getElementById("notices").replaceChildren(...missing.map((text) => {
    const notice = document.createElement("p");
    notice.textContent = text;
    return notice;
  }));
}

async function loadData() {
  const images = Float32Array.from(await unpack("images"), (byte) => byte / 255);
  return {
    images, // (n, 784), in [0, 1]
    labels: [...await unpack("labels")],
    mu: await unpackFloats("mu"),
    logVar: await unpackFloats("log_var"),
    codes: await unpackFloats("codes"),
    typical: await unpackFloats("typical"),
    checkZ: await unpackFloats("check_z"),
    checkLabels: [...await unpack("check_labels")],
    checkRecon: await unpackFloats("check_recon"),
    checkImages: await unpackFloats("check_images"),
  };
}

async function start() {
  const status = document.getElementById("status");
  translate();
  inEachLanguage(writeHeader);
  inEachLanguage(writeNotices);
  startExplain();
  status.textContent = say("loading");
  const data = await loadData();
  await model.load();
  const drawFirst = startGenerate(data);
  const drawSamples = startSamples();
  startTraverse();
  const drawPlane = startPlane(data);
  if (facts.labels_choose === "codes") {
    setState({ label: 3, z: Float32Array.from(row(data.typical, 3, DIMENSIONS)) });
  } else {
    setState({ label: 3, z: facts.has_encoder ? state.z : randomCode() });
  }
  await drawFirst();
  measured.loadMs = performance.now();
  status.textContent = "";
  await model.loadEncoder();
  const encode = startEncode(data);
  if (encode) encode.pick(Math.max(0, data.labels.indexOf(5)));
  await startMorph(data, encode)();
  await drawSamples();
  await drawPlane();
  await compareWithTorch(data);
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  measured.errors.push(String(error));
  const old = typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined";
  document.getElementById("status").textContent =
    old ? say("old") : say("failed", { reason: String(error) });
  console.error(error);
});
