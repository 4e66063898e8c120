"use strict";
/* Rows of images that can be picked. One of them can be reached with Tab, the others with arrows. */

/* Fill a container with n buttons, each an image; onPick(i) is called when one is picked. */
function makeGallery(container, n, onPick) {
  const buttons = [];
  container.setAttribute("role", "group");
  for (let i = 0; i < n; i++) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIZE;
    canvas.className = "digit";
    button.append(canvas);
    button.tabIndex = i === 0 ? 0 : -1;
    button.addEventListener("click", () => onPick(i));
    container.append(button);
    buttons.push(button);
  }
  const reach = (i) => {
    for (const button of buttons) button.tabIndex = -1;
    buttons[i].tabIndex = 0;
    buttons[i].focus();
  };
  container.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const first = buttons[0].getBoundingClientRect().top;
    const columns = buttons.filter((one) => one.getBoundingClientRect().top === first).length;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: n - 1 - at,
    };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const to = at + steps[event.key];
    if (to >= 0 && to < n) reach(to);
  });
  return {
    draw: (i, pixels) => draw(buttons[i].firstChild, pixels),
    name: (i, text) => buttons[i].setAttribute("aria-label", text),
    mark: (i) => buttons.forEach((one, k) => one.setAttribute("aria-pressed", k === i)),
  };
}
