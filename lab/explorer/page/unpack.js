"use strict";
/* What the page carries: facts as JSON, and arrays and networks as base64 of gzip. */

const facts = JSON.parse(document.getElementById("facts").textContent);

/* Whether the page carries this array or network. */
function carries(name) {
  return document.getElementById("blob-" + name) !== null;
}

/* Return the bytes of an array or network. */
async function unpack(name) {
  const letters = atob(document.getElementById("blob-" + name).textContent);
  const zipped = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) zipped[i] = letters.charCodeAt(i);
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* Return a float32 array; null if the page does not carry it. */
async function unpackFloats(name) {
  return carries(name) ? new Float32Array((await unpack(name)).buffer) : null;
}

/* Return row i of an array whose rows have this width. */
function row(array, i, width) {
  return array.subarray(i * width, (i + 1) * width);
}
