"use strict";
/* The texts of the page in two languages; texts.json has them. */

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const retranslated = []; // functions that write texts with figures in them
let language = (navigator.languages || [navigator.language]).find((one) => /^(en|zh)/i.test(one));
language = /^zh/i.test(language || "en") ? "zh" : "en";

/* Return a text with {name} replaced by values.name. */
function say(key, values = {}) {
  const text = TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  return text.replaceAll("N(0, I)", "N(0,\u00a0I)"); // on one line
}

/* Return several texts as one paragraph; Chinese needs no space between sentences. */
function sayAll(...keys) {
  return keys.map((key) => say(key)).join(language === "zh" ? "" : " ");
}

/* Run a function now and after each change of the language. */
function inEachLanguage(write) {
  retranslated.push(write);
  write();
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = say(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  for (const write of retranslated) write();
}

document.getElementById("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  translate();
});
inEachLanguage(() => {
  const button = document.getElementById("language");
  button.textContent = language === "en" ? "中文" : "English";
  button.lang = language === "en" ? "zh-CN" : "en";
});

/* Return a number with this many decimals, with a real minus sign. */
function decimals(value, count) {
  return value.toFixed(count).replace("-", "−");
}

/* Return a number in about five characters, such as 0.25, −12.5 or 1310. */
function short(value) {
  const size = Math.abs(value);
  return decimals(value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}
