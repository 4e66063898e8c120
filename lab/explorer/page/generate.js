"use strict";
/* The code z under sliders, and the image that the decoder makes of it. */

const SLIDERS_AT_FIRST = matchMedia("(max-width: 40rem)").matches ? 6 : 14;

function startGenerate(data) {
  const picture = document.getElementById("picture");
  const planePicture = document.getElementById("plane-picture");
  const labelButtons = document.getElementById("label-buttons");
  const sliders = [];
  let movedAt = null; // when a slider was moved that has no image yet

  const markLabel = makeLabelButtons(labelButtons, (label) => {
    if (facts.labels_choose === "decoder") setState({ label });
    else setState({ label, z: Float32Array.from(row(data.typical, label, DIMENSIONS)) });
  });
  labelButtons.hidden = facts.labels_choose === "nothing";
  inEachLanguage(() => {
    document.getElementById("generate-hint").textContent = sayAll(
      "generate.hint." + facts.labels_choose, "ranked." + facts.ranked_by);
  });

  // A label that only sets z is marked until z changes.
  const isChosen = () => facts.labels_choose === "decoder" || (facts.labels_choose === "codes"
    && row(data.typical, state.label, DIMENSIONS).every((value, k) => value === state.z[k]));

  const redraw = keepingUp(async () => {
    const since = movedAt;
    movedAt = null;
    const [image] = await model.decode([state.z], [state.label]);
    draw(picture, image);
    draw(planePicture, image);
    picture.setAttribute("aria-label", say("picture"));
    if (since !== null) {
      measured.sliderMs.push(performance.now() - since);
      showDebug();
    }
  });

  const makeSlider = ({ index, low, high, weight }) => {
    const label = document.createElement("label");
    label.className = "slider";
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = dimensionName(index);
    const share = document.createElement("span");
    share.className = "weight";
    share.style.width = `${100 * weight / facts.dimensions[0].weight}%`;
    name.append(share);
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 400 });
    const output = document.createElement("output");
    input.addEventListener("input", () => {
      movedAt ??= performance.now();
      state.z[index] = input.valueAsNumber;
      setState({ z: state.z });
    });
    input.addEventListener("dblclick", () => {
      state.z[index] = 0;
      setState({ z: state.z });
    });
    label.append(name, input, output);
    document.getElementById("sliders").append(label);
    sliders.push({ index, input, output, label });
  };
  facts.dimensions.forEach(makeSlider);

  const more = document.getElementById("more");
  const showSliders = (all) => {
    sliders.forEach((one, i) => { one.label.hidden = !all && i >= SLIDERS_AT_FIRST; });
    more.setAttribute("aria-expanded", all);
  };
  more.hidden = sliders.length <= SLIDERS_AT_FIRST;
  const nameMore = () => {
    const all = more.getAttribute("aria-expanded") === "true";
    more.textContent = say(all ? "fewer" : "more", { n: all ? SLIDERS_AT_FIRST : sliders.length });
  };
  more.addEventListener("click", () => {
    showSliders(more.getAttribute("aria-expanded") !== "true");
    nameMore();
  });
  showSliders(false);
  inEachLanguage(nameMore);

  followers.push(() => {
    for (const { index, input, output } of sliders) {
      input.value = state.z[index];
      output.textContent = short(state.z[index]);
    }
    markLabel(isChosen() ? state.label : null);
    redraw();
  });

  document.getElementById("surprise").addEventListener("click", () => {
    setState({ z: randomCode(state.temperature) });
  });
  document.getElementById("reset").addEventListener("click", () => {
    setState({ z: new Float32Array(DIMENSIONS) });
  });
  document.getElementById("temperature-row").hidden = model.atlas !== null;
  const temperature = document.getElementById("temperature");
  const showTemperature = () => {
    state.temperature = temperature.valueAsNumber;
    document.getElementById("temperature-value").textContent = state.temperature.toFixed(2);
  };
  temperature.addEventListener("input", showTemperature);
  showTemperature();
  return redraw;
}
