// The system decides between light and dark; the button changes it, and the choice is remembered.
const root = document.documentElement;
const name = "vae-lab-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

try {
  const chosen = localStorage.getItem(name);
  if (chosen) root.dataset.theme = chosen;
} catch {} // a browser may forbid storage

addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector(".theme");
  const show = () => button.setAttribute("aria-pressed", isDark());
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(name, root.dataset.theme);
    } catch {}
    show();
  });
  system.addEventListener("change", show);
  button.hidden = false;
  show();
});
