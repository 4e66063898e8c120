"use strict";
/* A row of ten buttons, one per label. */

/* Fill a container; return a function that marks one label, or none for null. */
function makeLabelButtons(container, onPick) {
  const buttons = [];
  for (let label = 0; label < 10; label++) {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", () => onPick(label));
    container.append(button);
    buttons.push(button);
  }
  return (label) => buttons.forEach((one, k) => one.setAttribute("aria-pressed", k === label));
}
