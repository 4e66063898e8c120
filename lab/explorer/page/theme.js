"use strict";
/* Light or dark: the system decides until the reader does. */

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const rethemed = []; // functions that draw with the theme's colors
let chosenTheme = null;

function applyTheme() {
  const theme = chosenTheme || (systemIsDark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  for (const draw of rethemed) draw();
}

/* Return a color of the theme, such as "--ink". */
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

systemIsDark.addEventListener("change", applyTheme);
applyTheme();
const themeButton = document.getElementById("theme");
const nameTheme = () => {
  const dark = document.documentElement.dataset.theme === "dark";
  themeButton.textContent = say(dark ? "theme.light" : "theme.dark");
};
themeButton.addEventListener("click", () => {
  chosenTheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  applyTheme();
});
rethemed.push(nameTheme);
inEachLanguage(nameTheme);
