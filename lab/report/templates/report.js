"use strict";
// The language and the theme: the browser decides first, and the buttons change them.
const root = document.documentElement;
const language = document.getElementById("language");

function speak(code) {
  root.lang = code;
  language.textContent = code === "en" ? "中文" : "English";
}

speak(navigator.language.toLowerCase().startsWith("zh") ? "zh-CN" : "en");
language.addEventListener("click", () => speak(root.lang === "en" ? "zh-CN" : "en"));
root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});

// A chosen reconstruction is shown closely: input, output, difference, numbers.
for (const section of document.querySelectorAll(".reconstructions")) {
  const buttons = section.querySelectorAll("button.sprite");
  const choose = (button) => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const x = button.style.getPropertyValue("--x");
    for (const large of section.querySelectorAll(".large")) large.style.setProperty("--x", x);
    for (const [name, value] of Object.entries(JSON.parse(button.dataset.numbers))) {
      section.querySelector(`[data-of="${name}"]`).textContent = value;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  choose(buttons[0]);
}
